// Greedy tokens through the shim, and what bad input comes to: PROGRAM MODEL CPU-LIBRARY PROMPT COUNT.
#include "ggml-backend.h"
#include "gollama.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void log_line(int32_t level, const char * line) {
    if (level >= GGML_LOG_LEVEL_ERROR) {
        fprintf(stderr, "%s\n", line);
    }
}

int main(int argc, char ** argv) {
    gollama_error error;
    gollama_start(log_line);
    if (argc != 5 || gollama_backend_score(argv[2], &error) <= 0 || !gollama_backend_load(argv[2], &error)) {
        fprintf(stderr, "%s\n", error.message);
        return 2;
    }
    // an exception in each of llama.cpp's layers must come here as a code
    if (gollama_model_load(__FILE__, llama_model_default_params(), &error) || error.code == GOLLAMA_OK) {
        return 3;
    }
    fprintf(stderr, "refused: %s\n", error.message);
    struct llama_model_params of_model = llama_model_default_params();
    struct llama_model *      model    = gollama_model_load(argv[1], of_model, &error);
    if (!model) {
        fprintf(stderr, "%s\n", error.message);
        return 4;
    }
    gollama_sampling sampling = gollama_sampling_default();
    sampling.temperature      = 0;
    sampling.grammar          = "root ::= (";
    if (gollama_sampler_new(model, &sampling, &error) || error.code == GOLLAMA_OK) {
        return 5;
    }
    fprintf(stderr, "refused: %s\n", error.message);
    sampling.grammar                 = NULL;
    struct gollama_sampler * sampler = gollama_sampler_new(model, &sampling, &error);

    struct llama_context_params of_context = llama_context_default_params();
    of_context.n_ctx = of_context.n_batch = 64;
    of_context.n_threads = of_context.n_threads_batch = 1;
    struct gollama_context * context = gollama_context_new(model, of_context, &error);
    llama_token              tokens[64];
    int                      n = gollama_tokenize(llama_model_get_vocab(model), argv[3], (int) strlen(argv[3]), tokens, 64, true, false, &error);
    int                      position = 0;
    for (int left = atoi(argv[4]); sampler && context && n > 0 && left > 0; --left) {
        const gollama_run run = { .sequence = 0, .position = position, .n_tokens = n, .n_outputs = 1 };
        const gollama_due due = { .row = n - 1, .n_draft = 0, .n_logprobs = -1, .token = -1 };
        gollama_result    result;
        if (!gollama_step(context, tokens, &run, 1, &due, &sampler, 1, &result, &error)) {
            fprintf(stderr, "%s\n", error.message);
            return 6;
        }
        position += n;
        n         = 1;
        tokens[0] = result.words[GOLLAMA_RESULT_WORDS + 2];
        printf("%d\n", tokens[0]);
    }
    gollama_context_free(context);
    gollama_sampler_free(sampler);
    llama_model_free(model);
    return 0;
}
