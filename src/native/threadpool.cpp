#include "threadpool.hpp"

#include "guard.hpp"

#include <algorithm>

#if defined(_WIN32)
static long this_process() { return 0; }  // there is no fork
#else
#    include <unistd.h>
static long this_process() { return getpid(); }
#endif

namespace gollama {

// The threads live in the CPU backend, which is loaded at run time.
template <typename Function> static Function cpu_function(const char * name) {
    ggml_backend_reg_t cpu = ggml_backend_dev_backend_reg(ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU));
    return reinterpret_cast<Function>(ggml_backend_reg_get_proc_address(cpu, name));
}

threadpool::threadpool(llama_context * context, int n_threads, int n_threads_batch) :
    contexts{ context },
    n_threads(std::max(n_threads, n_threads_batch)) {
    create();
}

threadpool::~threadpool() {
    if (process == this_process()) {
        for (llama_context * context : contexts) {
            llama_detach_threadpool(context);
        }
        cpu_function<void (*)(ggml_threadpool_t)>("ggml_threadpool_free")(pool);
    }
}

void threadpool::create() {
    ggml_threadpool_params params = ggml_threadpool_params_default(n_threads);
    process                       = this_process();
    pool = cpu_function<ggml_threadpool_t (*)(ggml_threadpool_params *)>("ggml_threadpool_new")(&params);
    if (!pool) {
        throw failure(GOLLAMA_FAILED, "the threads to compute with could not be made");
    }
    for (llama_context * context : contexts) {
        llama_attach_threadpool(context, pool, nullptr);
    }
}

void threadpool::attach(llama_context * other) {
    contexts.push_back(other);
    llama_attach_threadpool(other, pool, nullptr);
}

void threadpool::detach(llama_context * other) {
    contexts.erase(std::remove(contexts.begin(), contexts.end(), other), contexts.end());
    llama_detach_threadpool(other);
}

void threadpool::revive() {
    if (process != this_process()) {
        create();
    }
}

}  // namespace gollama
