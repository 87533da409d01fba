// The hot loop: fill the batch, decode, sample every due row, turn tokens into bytes, in one call.
#include "context.hpp"

#include "logprobs.hpp"
#include "positions.hpp"
#include "sampler.hpp"

#include "ggml.h"

#include <algorithm>
#include <cmath>
#if defined(__GLIBC__)
#    include <malloc.h>
#endif

gollama_context::~gollama_context() {
    if (broken) {
        threads.release();  // in an unknown state, like all the rest
        return;
    }
    threads.reset();
    llama_free(context);
}

void gollama_context::require_whole() const {
    if (broken) {
        throw gollama::failure(GOLLAMA_BROKEN, "an assertion of llama.cpp failed in this context earlier; make a new one");
    }
}

void gollama_context::require_sequence(int32_t sequence) const {
    const auto count = static_cast<int32_t>(llama_n_seq_max(context));
    if (sequence < 0 || sequence >= count) {
        throw gollama::failure(GOLLAMA_INVALID_ARGUMENT,
                               "there is no sequence " + std::to_string(sequence) + ", only " + std::to_string(count));
    }
}

void gollama_context::decode() {
    threads->revive();
    gollama::require_computed(llama_decode(context, batch->value), cancelled);
    llama_synchronize(context);
}

// Appends the token's text to the bytes; its length. `special`: a control token has one too.
int32_t gollama_context::render(llama_token token, bool special) {
    const size_t start = bytes.size();
    int32_t      room  = 64;
    for (;;) {
        bytes.resize(start + room);
        const int32_t written = llama_token_to_piece(vocab, token, bytes.data() + start, room, 0, special);
        if (written >= 0) {
            bytes.resize(start + written);
            return written;
        }
        room = -written;
    }
}

void gollama_context::choose(int32_t row, llama_token token, int32_t n_logprobs, bool special) {
    float logprob = 0;
    if (n_logprobs >= 0) {
        const float * logits  = llama_get_logits_ith(context, row);
        const int32_t n_vocab = llama_vocab_n_tokens(vocab);
        const float   total   = gollama::log_sum_exp(logits, n_vocab);
        const int32_t k       = std::min(n_logprobs, n_vocab);
        const size_t  start   = top_tokens.size();
        logprob               = logits[token] - total;
        top_tokens.resize(start + k);
        top_logprobs.resize(start + k);
        gollama::largest(logits, n_vocab, k, top_tokens.data() + start, top_logprobs.data() + start);
        for (size_t i = start; i < start + k; i++) {
            top_logprobs[i] -= total;
        }
    }
    const bool    ends   = llama_vocab_is_eog(vocab, token);
    const int32_t length = render(token, special);
    words.insert(words.end(), { token, ends, length });
    logprobs.push_back(logprob);
}

// A memory that holds what is no number, which a forged state may have brought in, makes all logits of a row such.
static void require_numbers(llama_context * context, int32_t row) {
    if (std::isnan(llama_get_logits_ith(context, row)[0])) {
        throw gollama::failure(GOLLAMA_BROKEN, "what was computed is no number: the sequence's memory is spoiled, or the model is");
    }
}

void gollama_context::sample_one(const gollama_due & due, gollama_sampler & sampler) {
    for (int32_t i = 0; i <= due.n_draft; i++) {
        const int32_t row = due.row + i;
        require_numbers(context, row);
        const llama_token token = sampler.sample(context, row);
        choose(row, token, due.n_logprobs, sampler.shows(token));
        sampler.accept(token, true);
        if (i < due.n_draft && token != batch->value.token[row + 1]) {
            break;
        }
    }
}

void gollama_context::clear_results(int32_t n_due) {
    words.assign(GOLLAMA_RESULT_WORDS + 2 * n_due, 0);
    messages.clear();
    bytes.clear();
    logprobs.clear();
    top_tokens.clear();
    top_logprobs.clear();
}

void gollama_context::sample(const gollama_due * due, gollama_sampler * const * samplers, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        const size_t  before = logprobs.size();
        gollama_error error;
        // what fails here concerns one request, and not its neighbours in the batch
        gollama::guarded(&error, false, [&] {
            if (samplers[i]) {
                sample_one(due[i], *samplers[i]);
            } else {
                require_numbers(context, due[i].row);
                choose(due[i].row, due[i].token, due[i].n_logprobs, false);
            }
            return true;
        });
        if (error.code != GOLLAMA_OK) {
            messages.resize(count);
            messages[i] = error.message;
            words[GOLLAMA_RESULT_N_FAILED]++;
        }
        words[GOLLAMA_RESULT_WORDS + 2 * i]     = error.code;
        words[GOLLAMA_RESULT_WORDS + 2 * i + 1] = static_cast<int32_t>(logprobs.size() - before);
    }
}

static void check_due(const gollama_context & context, const gollama_due & due, bool sampled) {
    for (int32_t i = 0; i <= due.n_draft; i++) {
        if (!context.batch->has_output(due.row + i)) {
            throw gollama::failure(GOLLAMA_INVALID_ARGUMENT, "row " + std::to_string(due.row + i) +
                                                                 " has no logits to sample from: it is no output of its run");
        }
    }
    if (!sampled && (due.token < 0 || due.token >= llama_vocab_n_tokens(context.vocab))) {
        throw gollama::failure(GOLLAMA_INVALID_ARGUMENT, "token " + std::to_string(due.token) + " is not in the vocabulary");
    }
}

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
            throw gollama::not_made(GOLLAMA_FAILED, "llama.cpp could not make a context");
        }
        result->memory        = llama_get_memory(result->context);
        result->n_outputs_max = params.n_outputs_max ? params.n_outputs_max : llama_n_batch(result->context);
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
#if defined(__GLIBC__)
        malloc_trim(0);  // a context is often freed to make a larger one, which would come on top of it
#endif
        return 0;
    });
}

llama_context * gollama_context_llama(gollama_context * context) { return context->context; }

void gollama_context_cancel(gollama_context * context) { context->cancelled = true; }

void gollama_context_resume(gollama_context * context) { context->cancelled = false; }

bool gollama_step(gollama_context * context, const llama_token * tokens, const gollama_run * runs, int32_t n_runs,
                  const gollama_due * due, gollama_sampler * const * samplers, int32_t n_due, gollama_result * result,
                  gollama_error * error) {
    return gollama::guarded(context, error, false, [&] {
        auto & self = *context;
        self.clear_results(n_due);
        self.batch->clear();
        const int32_t n_vocab = llama_vocab_n_tokens(self.vocab);
        for (int32_t i = 0; i < n_runs; tokens += runs[i].n_tokens, i++) {
            self.batch->add(runs[i], tokens, n_vocab);
        }
        if (self.batch->outputs > self.n_outputs_max) {
            throw gollama::failure(GOLLAMA_INVALID_ARGUMENT, "a batch with " + std::to_string(self.batch->outputs) +
                                                                 " outputs; the context has room for " +
                                                                 std::to_string(self.n_outputs_max));
        }
        for (int32_t i = 0; i < n_due; i++) {
            check_due(self, due[i], samplers[i]);
        }
        const bool    wanted = std::any_of(due, due + n_due, [](const gollama_due & one) { return one.n_logprobs >= 0; });
        const int64_t start  = ggml_time_us();
        self.decode();
        const int64_t decoded = ggml_time_us();
        self.sample(due, samplers, n_due);
        self.words[GOLLAMA_RESULT_N_BYTES]             = static_cast<int32_t>(self.bytes.size());
        self.words[GOLLAMA_RESULT_N_LOGPROBS]          = wanted ? static_cast<int32_t>(self.logprobs.size()) : 0;
        self.words[GOLLAMA_RESULT_N_TOP]               = static_cast<int32_t>(self.top_tokens.size());
        self.words[GOLLAMA_RESULT_DECODE_MICROSECONDS] = static_cast<int32_t>(std::min<int64_t>(decoded - start, INT32_MAX));
        self.words[GOLLAMA_RESULT_SAMPLE_MICROSECONDS] = static_cast<int32_t>(std::min<int64_t>(ggml_time_us() - decoded, INT32_MAX));
        *result = { self.words.data(), static_cast<int32_t>(self.words.size()), self.bytes.data(), self.logprobs.data(),
                    self.top_tokens.data(), self.top_logprobs.data() };
        return true;
    });
}

const char * gollama_outcome_message(const gollama_context * context, int32_t index) {
    const auto & messages = context->messages;
    return index >= 0 && index < static_cast<int32_t>(messages.size()) ? messages[index].c_str() : "";
}

}  // extern "C"
