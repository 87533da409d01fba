#pragma once

#include "guard.hpp"

#include <atomic>
#include <string>

namespace gollama {

// The only place that knows llama_batch, which upstream is replacing.
class batch {
  public:
    batch(int32_t capacity, int32_t sequences, int32_t positions) :
        value(llama_batch_init(capacity, 0, 1)),
        capacity(capacity),
        sequences(sequences),
        positions(positions) {}
    ~batch() { llama_batch_free(value); }
    batch(const batch &) = delete;

    void clear() {
        value.n_tokens = 0;
        outputs        = 0;
    }

    // Checks what llama.cpp would assert, and adds the run behind those that are there.
    void add(const gollama_run & run, const llama_token * tokens, int32_t n_vocab) {
        if (run.n_tokens < 1 || run.n_tokens > capacity - value.n_tokens) {
            throw failure(GOLLAMA_INVALID_ARGUMENT, "a batch of " + std::to_string(value.n_tokens + run.n_tokens) +
                                                        " tokens does not fit batch_size " + std::to_string(capacity));
        }
        if (run.sequence < 0 || run.sequence >= sequences || run.position < 0) {
            throw failure(GOLLAMA_INVALID_ARGUMENT, "a run names sequence " + std::to_string(run.sequence) + " at position " +
                                                        std::to_string(run.position) + "; there are " +
                                                        std::to_string(sequences) + " sequences");
        }
        if (positions > 0 && run.position > positions - run.n_tokens) {
            // ggml asserts this on a compute thread, where nobody can catch it
            throw failure(GOLLAMA_INVALID_ARGUMENT, "position " + std::to_string(run.position + run.n_tokens - 1) +
                                                        " is past the " + std::to_string(positions) + " that the model has learned");
        }
        for (int32_t i = 0; i < run.n_tokens; i++) {
            if (tokens[i] < 0 || tokens[i] >= n_vocab) {
                throw failure(GOLLAMA_INVALID_ARGUMENT, "token " + std::to_string(tokens[i]) +
                                                            " is not in the vocabulary of " + std::to_string(n_vocab) + " tokens");
            }
            const int32_t row    = value.n_tokens++;
            value.token[row]     = tokens[i];
            value.pos[row]       = run.position + i;
            value.n_seq_id[row]  = 1;
            value.seq_id[row][0] = run.sequence;
            value.logits[row]    = i >= run.n_tokens - run.n_outputs;
            outputs += value.logits[row];
        }
    }

    bool has_output(int32_t row) const { return row >= 0 && row < value.n_tokens && value.logits[row]; }

    llama_batch value;
    int32_t     outputs = 0;

  private:
    int32_t capacity;
    int32_t sequences;
    int32_t positions;
};

// What llama_decode and llama_encode return; `cancelled` is the flag that their abort callback reads.
inline void require_computed(int32_t code, std::atomic<bool> & cancelled) {
    switch (code) {
        case 0: return;
        case 1: throw failure(GOLLAMA_CONTEXT_FULL, "there are no free cells in the context's memory for this batch");
        case 2: cancelled = false; throw failure(GOLLAMA_CANCELLED, "the computation was cancelled");
        case -1: throw failure(GOLLAMA_INVALID_ARGUMENT, with_log("llama.cpp refuses the batch"));
        case -2: throw failure(GOLLAMA_OUT_OF_MEMORY, with_log("there is no memory to compute the batch"));
        default: throw failure(GOLLAMA_FAILED, with_log("llama.cpp failed with code " + std::to_string(code)));
    }
}

}  // namespace gollama
