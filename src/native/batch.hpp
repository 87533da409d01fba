#pragma once

#include "guard.hpp"

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

    void fill(const gollama_row * rows, int32_t count, int32_t n_vocab) {
        if (count < 1 || count > capacity) {
            throw failure(GOLLAMA_INVALID_ARGUMENT, "a batch of " + std::to_string(count) + " tokens does not fit batch_size " +
                                                        std::to_string(capacity));
        }
        for (int32_t i = 0; i < count; i++) {
            const gollama_row & row = rows[i];
            if (row.token < 0 || row.token >= n_vocab) {
                throw failure(GOLLAMA_INVALID_ARGUMENT, "token " + std::to_string(row.token) +
                                                            " is not in the vocabulary of " + std::to_string(n_vocab) + " tokens");
            }
            if (row.sequence < 0 || row.sequence >= sequences || row.position < 0) {
                throw failure(GOLLAMA_INVALID_ARGUMENT, "row " + std::to_string(i) + " names sequence " +
                                                            std::to_string(row.sequence) + " at position " +
                                                            std::to_string(row.position) + "; there are " +
                                                            std::to_string(sequences) + " sequences");
            }
            if (positions > 0 && row.position >= positions) {
                // ggml asserts this on a compute thread, where nobody can catch it
                throw failure(GOLLAMA_INVALID_ARGUMENT, "position " + std::to_string(row.position) + " is past the " +
                                                            std::to_string(positions) + " that the model has learned");
            }
            value.token[i]     = row.token;
            value.pos[i]       = row.position;
            value.n_seq_id[i]  = 1;
            value.seq_id[i][0] = row.sequence;
            value.logits[i]    = row.output != 0;
        }
        value.n_tokens = count;
    }

    bool outputs(int32_t row) const { return row >= 0 && row < value.n_tokens && value.logits[row]; }

    llama_batch value;

  private:
    int32_t capacity;
    int32_t sequences;
    int32_t positions;
};

}  // namespace gollama
