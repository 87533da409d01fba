#pragma once

#include "batch.hpp"
#include "threadpool.hpp"

#include <atomic>
#include <memory>
#include <string>
#include <vector>

struct gollama_context {
    llama_context *                      context = nullptr;
    llama_memory_t                       memory  = nullptr;
    const llama_vocab *                  vocab   = nullptr;
    int32_t                              n_outputs_max = 0;
    std::unique_ptr<gollama::batch>      batch;
    std::unique_ptr<gollama::threadpool> threads;
    std::atomic<bool>                    cancelled { false };
    bool                                 broken  = false;
    bool                                 steered = false;  // has control vectors

    // the last step's results
    std::vector<int32_t>     words;
    std::vector<std::string> messages;
    std::vector<char>        bytes;
    std::vector<float>       logprobs;
    std::vector<llama_token> top_tokens;
    std::vector<float>       top_logprobs;

    ~gollama_context();

    void require_whole() const;
    void require_sequence(int32_t sequence) const;
    void decode();
    void clear_results(int32_t n_due);
    void sample(const gollama_due * due, gollama_sampler * const * samplers, int32_t count);

  private:
    void    sample_one(const gollama_due & due, gollama_sampler & sampler);
    void    choose(int32_t row, llama_token token, int32_t n_logprobs, bool special);
    int32_t render(llama_token token, bool special);
};

namespace gollama {

// As guarded; what breaks inside takes the context with it.
template <typename Result, typename Body>
Result guarded(gollama_context * context, gollama_error * error, Result fallback, Body && body) {
    const Result result = guarded(error, fallback, [&] {
        context->require_whole();
        return body();
    });
    if (error->code == GOLLAMA_BROKEN) {
        context->broken = true;
    }
    return result;
}

}  // namespace gollama
