// Devices, and what a model and a context take of their memory.
#include "guard.hpp"
#include "gguf_check.hpp"

#include "fit.h"  // common
#include "ggml-alloc.h"
#include "ggml-cpp.h"
#include "llama-ext.h"

#include <mutex>
#include <vector>

namespace gollama {

// common's measuring swaps llama.cpp's global log callback
static std::mutex measuring;

static int32_t write_rows(const std::vector<gollama_memory> & found, gollama_memory * rows, int32_t capacity) {
    for (size_t i = 0; i < found.size() && i < static_cast<size_t>(capacity); i++) {
        rows[i] = found[i];
    }
    return static_cast<int32_t>(found.size());
}

static gollama_memory empty_row(ggml_backend_dev_t device) {
    gollama_memory row = {};
    row.device         = device;
    size_t free        = 0;
    size_t total       = 0;
    ggml_backend_dev_memory(device ? device : ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU), &free, &total);
    row.memory_free  = free;
    row.memory_total = total;
    return row;
}

// A driver may open devices whose code it cannot run, or cannot translate; a sum shows it.
static bool can_add(ggml_backend_t backend) {
    const ggml_init_params params = { 4 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true };
    const ggml_context_ptr context(ggml_init(params));
    ggml_tensor * const    left  = ggml_new_tensor_1d(context.get(), GGML_TYPE_F32, 1);
    ggml_tensor * const    right = ggml_new_tensor_1d(context.get(), GGML_TYPE_F32, 1);
    ggml_tensor * const    sum   = ggml_add(context.get(), left, right);
    ggml_cgraph * const    graph = ggml_new_graph(context.get());
    ggml_build_forward_expand(graph, sum);
    const ggml_backend_buffer_ptr buffer(ggml_backend_alloc_ctx_tensors(context.get(), backend));
    if (!buffer) {
        return false;
    }
    const float one = 1.0f, two = 2.0f;
    float       found = 0.0f;
    ggml_backend_tensor_set(left, &one, 0, sizeof one);
    ggml_backend_tensor_set(right, &two, 0, sizeof two);
    if (ggml_backend_graph_compute(backend, graph) != GGML_STATUS_SUCCESS) {
        return false;
    }
    ggml_backend_tensor_get(sum, &found, 0, sizeof found);
    return found == 3.0f;
}

}  // namespace gollama

extern "C" {

int32_t gollama_device_count(void) { return static_cast<int32_t>(ggml_backend_dev_count()); }

bool gollama_device_describe(int32_t index, gollama_device * device, gollama_error * error) {
    *device = {};
    return gollama::guarded(error, false, [&] {
        if (index < 0 || index >= gollama_device_count()) {
            throw gollama::failure(GOLLAMA_INVALID_ARGUMENT, "there is no device " + std::to_string(index));
        }
        const ggml_backend_dev_t found = ggml_backend_dev_get(index);
        ggml_backend_dev_props   props;
        ggml_backend_dev_get_props(found, &props);
        *device = { props.name, props.description, ggml_backend_reg_name(ggml_backend_dev_backend_reg(found)), props.device_id,
                    static_cast<int32_t>(props.type), props.memory_free, props.memory_total };
        return true;
    });
}

bool gollama_device_try(const char * name, gollama_error * error) {
    return gollama::guarded(error, false, [&] {
        const ggml_backend_ptr opened(ggml_backend_init_by_name(name, nullptr));
        if (!opened) {
            throw gollama::failure(GOLLAMA_FAILED, gollama::with_log(std::string("the device ") + name + " does not open"));
        }
        if (!gollama::can_add(opened.get())) {
            throw gollama::failure(GOLLAMA_FAILED, gollama::with_log(std::string("the device ") + name + " does not compute"));
        }
        return true;
    });
}

int32_t gollama_estimate(const char * path, llama_model_params model, llama_context_params context, gollama_memory * rows,
                         int32_t capacity, gollama_error * error) {
    return gollama::guarded(error, -1, [&] {
        gollama::check_gguf(path);
        const std::lock_guard<std::mutex> held(gollama::measuring);
        std::vector<ggml_backend_dev_t>   devices;
        uint32_t                          layers = 0, trained = 0, experts = 0;
        const auto data = common_get_device_memory_data(path, &model, &context, devices, layers, trained, experts, GGML_LOG_LEVEL_ERROR);
        std::vector<gollama_memory> found;
        for (size_t i = 0; i < data.size(); i++) {
            found.push_back(gollama::empty_row(i < devices.size() ? devices[i] : nullptr));
            found.back().weights = data[i].model;
            found.back().context = data[i].context;
            found.back().compute = data[i].compute;
        }
        return gollama::write_rows(found, rows, capacity);
    });
}

bool gollama_fit(const char * path, llama_model_params * model, llama_context_params * context, float * tensor_split,
                 llama_model_tensor_buft_override * overrides, size_t * leave, uint32_t least_context, gollama_error * error) {
    return gollama::guarded(error, false, [&] {
        gollama::check_gguf(path);
        const std::lock_guard<std::mutex> held(gollama::measuring);
        switch (common_fit_params(path, model, context, tensor_split, overrides, leave, least_context, nullptr, GGML_LOG_LEVEL_ERROR)) {
            case COMMON_PARAMS_FIT_STATUS_SUCCESS:
                return true;
            case COMMON_PARAMS_FIT_STATUS_FAILURE:
                throw gollama::failure(GOLLAMA_OUT_OF_MEMORY, "no choice of layers and context fits the memory of the devices");
            default:
                throw gollama::failure(GOLLAMA_INVALID_MODEL, gollama::with_log("llama.cpp cannot measure the model"));
        }
    });
}

int32_t gollama_context_memory(llama_context * context, gollama_memory * rows, int32_t capacity, gollama_error * error) {
    return gollama::guarded(error, -1, [&] {
        const llama_model *         model = llama_get_model(context);
        std::vector<gollama_memory> found;
        for (int32_t i = 0; i < llama_model_n_devices(model); i++) {
            found.push_back(gollama::empty_row(llama_model_get_device(model, i)));
        }
        found.push_back(gollama::empty_row(nullptr));
        for (const auto & [type, taken] : llama_get_memory_breakdown(context)) {
            const ggml_backend_dev_t device = ggml_backend_buft_is_host(type) ? nullptr : ggml_backend_buft_get_device(type);
            for (auto & row : found) {
                if (row.device == device) {
                    row.weights += taken.model;
                    row.context += taken.context;
                    row.compute += taken.compute;
                    break;
                }
            }
        }
        return gollama::write_rows(found, rows, capacity);
    });
}

}  // extern "C"
