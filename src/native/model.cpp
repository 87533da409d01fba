// Loading models from files that nobody vouches for.
#include "guard.hpp"
#include "gguf_check.hpp"

extern "C" {

llama_model * gollama_model_load(const char * path, llama_model_params params, gollama_error * error) {
    return gollama::guarded(error, static_cast<llama_model *>(nullptr), [&] {
        gollama::check_gguf(path);
        llama_model * model = nullptr;
        try {
            model = llama_model_load_from_file(path, params);
        } catch (const gollama::assertion & e) {
            // the half-loaded model is unreachable and stays where it is; the process lives
            throw gollama::failure(GOLLAMA_INVALID_MODEL, std::string("llama.cpp cannot load the model: ") + e.what());
        }
        if (!model) {
            throw gollama::failure(GOLLAMA_INVALID_MODEL, gollama::with_log("llama.cpp cannot load the model"));
        }
        return model;
    });
}

}  // extern "C"
