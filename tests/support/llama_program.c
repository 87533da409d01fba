// Greedy tokens by llama.cpp's C API: PROGRAM MODEL CPU-LIBRARY PROMPT COUNT.
#include "ggml-backend.h"
#include "llama.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char ** argv) {
    if (argc != 5 || !ggml_backend_load(argv[2])) {
        return 2;
    }
    llama_backend_init();
    struct llama_model_params of_model = llama_model_default_params();
    struct llama_model *      model    = llama_model_load_from_file(argv[1], of_model);
    if (!model) {
        return 3;
    }
    struct llama_context_params of_context = llama_context_default_params();
    of_context.n_ctx = of_context.n_batch = 64;
    of_context.n_threads = of_context.n_threads_batch = 1;
    struct llama_context *     context = llama_init_from_model(model, of_context);
    const struct llama_vocab * vocab   = llama_model_get_vocab(model);
    struct llama_sampler *     greedy  = llama_sampler_init_greedy();
    llama_token                tokens[64];
    int                        n = llama_tokenize(vocab, argv[3], (int) strlen(argv[3]), tokens, 64, true, false);
    for (int left = atoi(argv[4]); context && n > 0 && left > 0; --left) {
        if (llama_decode(context, llama_batch_get_one(tokens, n))) {
            return 4;
        }
        tokens[0] = llama_sampler_sample(greedy, context, -1);
        n         = 1;
        printf("%d\n", tokens[0]);
    }
    return 0;
}
