// Adapters and control vectors: loaded from files that nobody vouches for, and what a context computes with.
#include "context.hpp"
#include "gguf_check.hpp"

#include "common.h"         // common: reads control vectors
#include "llama-adapter.h"  // llama.cpp's src: llama.h does not tell what an adapter consists of
#include "llama-context.h"  // and prepares a context for new adapters only at its next batch
#include "llama-model.h"

#include <cmath>

struct gollama_control_vector {
    std::vector<float> data;  // of every layer but the first, which can have none
};

namespace gollama {

[[noreturn]] static void refuse(const std::string & message) { throw failure(GOLLAMA_INVALID_MODEL, message); }

static bool is_number(ggml_type type) {
    return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16 || ggml_is_quantized(type);
}

// What llama.cpp's loader leaves to the assertions of a step.
static void check_adapter(const llama_model * model, const llama_adapter_lora & adapter) {
    if (!adapter.alora_invocation_tokens.empty()) {
        refuse("it is an activated LoRA (aLoRA), which applies only behind its invocation tokens: gollama computes whole "
               "sequences with the same adapters and has no use for it");
    }
    if (!std::isfinite(adapter.alpha)) {
        refuse("its alpha is no number");
    }
    for (const auto & [name, weight] : adapter.ab_map) {
        const ggml_tensor * base = model->get_tensor(name.c_str());
        const ggml_tensor * a    = weight.a;
        const ggml_tensor * b    = weight.b;
        if (!base || !is_number(a->type) || !is_number(b->type)) {
            refuse("the tensors for '" + name + "' are of a type that nothing can be multiplied with");
        }
        if (a->ne[2] != base->ne[2] || b->ne[2] != base->ne[2] || a->ne[3] != base->ne[3] || b->ne[3] != base->ne[3]) {
            refuse("tensor '" + name + "' has incorrect shape");
        }
        if (name == "token_embd.weight") {
            if (a->ne[0] != b->ne[0]) {
                refuse("tensor '" + name + "' has incorrect shape");
            }
            if (!model->get_tensor("output.weight")) {
                refuse("it changes 'token_embd.weight', which this model uses for its output, too: llama.cpp cannot do that");
            }
        }
    }
}

// All the layers' directions, each with its scale, in llama.cpp's form.
static std::vector<float> sum(const gollama_control_vector * const * vectors, const float * scales, int32_t count, size_t size) {
    std::vector<float> result(size, 0.0f);  // whole: llama.cpp leaves in place what is not told anew
    for (int32_t i = 0; i < count; i++) {
        if (vectors[i]->data.size() != size) {
            throw failure(GOLLAMA_INVALID_ARGUMENT, "a control vector of another model");
        }
        for (size_t j = 0; j < size; j++) {
            result[j] += scales[i] * vectors[i]->data[j];
        }
    }
    return result;
}

}  // namespace gollama

extern "C" {

llama_adapter_lora * gollama_adapter_load(llama_model * model, const char * path, gollama_error * error) {
    return gollama::guarded(error, static_cast<llama_adapter_lora *>(nullptr), [&] {
        gollama::check_container(path);
        llama_adapter_lora * adapter = nullptr;
        try {
            adapter = llama_adapter_lora_init(model, path);
        } catch (const gollama::assertion & e) {
            throw gollama::failure(GOLLAMA_INVALID_MODEL, std::string("llama.cpp cannot load the adapter: ") + e.what());
        }
        if (!adapter) {
            throw gollama::not_made(GOLLAMA_INVALID_MODEL, "llama.cpp cannot load the adapter");
        }
        try {
            gollama::check_adapter(model, *adapter);
        } catch (...) {
            llama_adapter_lora_free(adapter);
            throw;
        }
        return adapter;
    });
}

gollama_control_vector * gollama_control_vector_load(const llama_model * model, const char * path, int32_t first, int32_t last,
                                                     gollama_error * error) {
    return gollama::guarded(error, static_cast<gollama_control_vector *>(nullptr), [&] {
        const int32_t n_embd  = llama_model_n_embd(model);
        const int32_t n_layer = llama_model_n_layer(model);
        gollama::check_control_vector(path, n_embd, n_layer);
        if (first < 1 || last < first) {
            throw gollama::failure(GOLLAMA_INVALID_ARGUMENT, "layers are numbered from 1, and the last is not before the first");
        }
        const auto loaded = common_control_vector_load({ { 1.0f, path } });
        if (loaded.n_embd != n_embd) {
            gollama::refuse(gollama::with_log("llama.cpp cannot load the control vector"));
        }
        auto         result = std::make_unique<gollama_control_vector>();
        const size_t size   = static_cast<size_t>(n_embd) * (n_layer - 1);
        const size_t start  = std::min(static_cast<size_t>(n_embd) * (first - 1), size);
        const size_t end    = std::min({ static_cast<size_t>(n_embd) * last, size, loaded.data.size() });
        result->data.assign(size, 0.0f);
        for (size_t i = start; i < end; i++) {
            if (!std::isfinite(loaded.data[i])) {
                gollama::refuse("the control vector is damaged: it holds what is no number");
            }
            result->data[i] = loaded.data[i];
        }
        return result.release();
    });
}

void gollama_control_vector_free(gollama_control_vector * vector) { delete vector; }

bool gollama_context_set_adapters(gollama_context * context, llama_adapter_lora ** adapters, float * adapter_scales, int32_t n_adapters,
                                  const gollama_control_vector * const * vectors, const float * vector_scales, int32_t n_vectors,
                                  gollama_error * error) {
    return gollama::guarded(context, error, false, [&] {
        const llama_model * model   = llama_get_model(context->context);
        const int32_t       n_embd  = llama_model_n_embd(model);
        const int32_t       n_layer = llama_model_n_layer(model);
        if (llama_set_adapters_lora(context->context, adapters, n_adapters, adapter_scales) != 0) {
            throw gollama::failure(GOLLAMA_FAILED, gollama::with_log("the adapters cannot be used"));
        }
        if (n_vectors > 0) {
            const auto data = gollama::sum(vectors, vector_scales, n_vectors, static_cast<size_t>(n_embd) * (n_layer - 1));
            context->steered = true;
            if (llama_set_adapter_cvec(context->context, data.data(), data.size(), n_embd, 1, n_layer) != 0) {
                throw gollama::not_made(GOLLAMA_FAILED, "the control vectors cannot be used");
            }
        } else if (context->steered) {
            llama_set_adapter_cvec(context->context, nullptr, 0, n_embd, 0, 0);
            context->steered = false;
        }
        context->context->sched_reserve();
        return true;
    });
}

}  // extern "C"
