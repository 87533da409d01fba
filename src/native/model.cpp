// Loading models from files that nobody vouches for.
#include "guard.hpp"
#include "gguf_check.hpp"
#include "positions.hpp"

#include <mutex>
#include <unordered_map>

namespace gollama {

static std::mutex                                           positions_lock;
static std::unordered_map<const llama_model *, int32_t> positions;

int32_t learned_positions(const llama_model * model) {
    const std::lock_guard<std::mutex> held(positions_lock);
    const auto                        found = positions.find(model);
    return found == positions.end() ? 0 : found->second;
}

static void note_positions(const llama_model * model, int32_t count) {
    const std::lock_guard<std::mutex> held(positions_lock);
    if (count > 0) {
        positions[model] = count;
    } else {
        positions.erase(model);  // of a model that was at this address before
    }
}

}  // namespace gollama

extern "C" {

llama_model * gollama_model_load(const char * path, llama_model_params params, gollama_error * error) {
    return gollama::guarded(error, static_cast<llama_model *>(nullptr), [&] {
        const int32_t learned = gollama::check_gguf(path);
        llama_model * model = nullptr;
        try {
            model = llama_model_load_from_file(path, params);
        } catch (const gollama::assertion & e) {
            // the half-loaded model is unreachable and stays where it is; the process lives
            throw gollama::failure(GOLLAMA_INVALID_MODEL, std::string("llama.cpp cannot load the model: ") + e.what());
        }
        if (!model) {
            throw gollama::not_made(GOLLAMA_INVALID_MODEL, "llama.cpp cannot load the model");
        }
        gollama::note_positions(model, learned);
        return model;
    });
}

bool gollama_model_describe(const llama_model * model, gollama_model_facts * facts, gollama_error * error) {
    *facts = {};
    return gollama::guarded(error, false, [&] {
        const llama_vocab * vocab = llama_model_get_vocab(model);
        facts->n_positions        = gollama::learned_positions(model);
        facts->n_vocab            = llama_vocab_n_tokens(vocab);
        facts->add_bos            = llama_vocab_get_add_bos(vocab);
        facts->add_eos            = llama_vocab_get_add_eos(vocab);
        facts->add_sep            = llama_vocab_get_add_sep(vocab);
        facts->n_layer            = llama_model_n_layer(model);
        if (facts->n_layer > 0) {  // the per-layer sizes assert that there are layers
            facts->n_params     = llama_model_n_params(model);
            facts->size         = llama_model_size(model);
            facts->n_ctx_train  = llama_model_n_ctx_train(model);
            facts->n_embd       = llama_model_n_embd(model);
            facts->n_head       = llama_model_n_head(model);
            facts->n_head_kv    = llama_model_n_head_kv(model);
            facts->n_swa        = llama_model_n_swa(model);
            facts->has_encoder  = llama_model_has_encoder(model);
            facts->has_decoder  = llama_model_has_decoder(model);
            facts->is_recurrent = llama_model_is_recurrent(model);
            facts->is_hybrid    = llama_model_is_hybrid(model);
            facts->is_diffusion = llama_model_is_diffusion(model);
        }
        return true;
    });
}

}  // extern "C"
