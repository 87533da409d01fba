#pragma once

#include "llama.h"

namespace gollama {

// Compute threads that stay for the life of a context. Without one, ggml makes and joins threads for every graph,
// which costs several percent of a small model's step.
class threadpool {
  public:
    threadpool(llama_context * context, int n_threads, int n_threads_batch);
    ~threadpool();
    threadpool(const threadpool &) = delete;

    // A forked child has none of its parent's threads: give it new ones.
    void revive();

  private:
    void create();

    llama_context *   context;
    int               n_threads;
    long              process = 0;
    ggml_threadpool_t pool    = nullptr;
};

}  // namespace gollama
