// The hot loop: fill the batch, decode, sample every due sequence, turn tokens into bytes, in one call.
#include "batch.hpp"
#include "guard.hpp"
#include "positions.hpp"
#include "sampler.hpp"
#include "threadpool.hpp"

#include <atomic>
#include <memory>
#include <vector>

struct gollama_context {
    llama_context *                 context = nullptr;
    const llama_vocab *             vocab   = nullptr;
    std::unique_ptr<gollama::batch> batch;
    std::unique_ptr<gollama::threadpool> threads;
    std::atomic<bool>               cancelled { false };
    bool                            broken = false;
    std::vector<char>               bytes;
    std::vector<size_t>             offsets;

    ~gollama_context() {
        if (broken) {
            threads.release();  // in an unknown state, like all the rest
            return;
        }
        threads.reset();
        llama_free(context);
    }

    void require_whole() const {
        if (broken) {
            throw gollama::failure(GOLLAMA_BROKEN, "an assertion of llama.cpp failed in this context earlier; make a new one");
        }
    }

    void decode() {
        threads->revive();
        const int32_t code = llama_decode(context, batch->value);
        switch (code) {
            case 0: return;
            case 1: throw gollama::failure(GOLLAMA_CONTEXT_FULL, "there are no free cells in the context's memory for this batch");
            case 2:
                cancelled = false;
                throw gollama::failure(GOLLAMA_CANCELLED, "the step was cancelled");
            case -1: throw gollama::failure(GOLLAMA_INVALID_ARGUMENT, gollama::with_log("llama_decode refuses the batch"));
            default:
                throw gollama::failure(code == -2 ? GOLLAMA_OUT_OF_MEMORY : GOLLAMA_FAILED,
                                       gollama::with_log("llama_decode failed with code " + std::to_string(code)));
        }
    }

    void render(gollama_due & due) {
        const size_t start = bytes.size();
        size_t       room  = 64;
        for (;;) {
            bytes.resize(start + room);
            const int32_t written =
                llama_token_to_piece(vocab, due.token, bytes.data() + start, static_cast<int32_t>(room), 0, false);
            if (written >= 0) {
                bytes.resize(start + written);
                due.n_bytes = written;
                return;
            }
            room = -written;
        }
    }

    void sample(gollama_due * due, int32_t count) {
        bytes.clear();
        offsets.clear();
        for (int32_t i = 0; i < count; i++) {
            common_sampler * sampler = due[i].sampler->sampler.get();
            due[i].token = common_sampler_sample(sampler, context, due[i].row);
            due[i].end_of_generation = llama_vocab_is_eog(vocab, due[i].token);
            common_sampler_accept(sampler, due[i].token, true);
            offsets.push_back(bytes.size());
            render(due[i]);
        }
        for (int32_t i = 0; i < count; i++) {
            due[i].bytes = bytes.data() + offsets[i];
        }
    }
};

extern "C" {

gollama_context * gollama_context_new(llama_model * model, llama_context_params params, gollama_error * error) {
    return gollama::guarded(error, static_cast<gollama_context *>(nullptr), [&] {
        auto result                = std::make_unique<gollama_context>();
        auto & cancelled           = result->cancelled;
        params.abort_callback      = [](void * flag) { return static_cast<std::atomic<bool> *>(flag)->load(std::memory_order_relaxed); };
        params.abort_callback_data = &cancelled;
        result->vocab              = llama_model_get_vocab(model);
        result->context            = llama_init_from_model(model, params);
        if (!result->context) {
            throw gollama::failure(GOLLAMA_FAILED, gollama::with_log("llama.cpp could not make a context"));
        }
        result->threads = std::make_unique<gollama::threadpool>(result->context, params.n_threads, params.n_threads_batch);
        result->batch = std::make_unique<gollama::batch>(llama_n_batch(result->context), llama_n_seq_max(result->context),
                                                         gollama::learned_positions(model));
        return result.release();
    });
}

void gollama_context_free(gollama_context * context) {
    gollama_error ignored;
    gollama::guarded(&ignored, 0, [&] {
        delete context;
        return 0;
    });
}

llama_context * gollama_context_llama(gollama_context * context) { return context->context; }

void gollama_context_cancel(gollama_context * context) { context->cancelled = true; }

void gollama_context_resume(gollama_context * context) { context->cancelled = false; }

bool gollama_step(gollama_context * context, const gollama_row * rows, int32_t n_rows, gollama_due * due, int32_t n_due,
                  gollama_error * error) {
    const bool done = gollama::guarded(error, false, [&] {
        context->require_whole();
        context->batch->fill(rows, n_rows, llama_vocab_n_tokens(context->vocab));
        for (int32_t i = 0; i < n_due; i++) {
            if (!context->batch->outputs(due[i].row)) {
                throw gollama::failure(GOLLAMA_INVALID_ARGUMENT, "row " + std::to_string(due[i].row) +
                                                                     " has no logits to sample from: set its output");
            }
        }
        context->decode();
        context->sample(due, n_due);
        return true;
    });
    if (error->code == GOLLAMA_BROKEN) {
        context->broken = true;
    }
    return done;
}

}  // extern "C"
