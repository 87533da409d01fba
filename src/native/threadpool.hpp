#pragma once

#include "llama.h"

#include <vector>

namespace gollama {

// Compute threads that stay for the life of a context. Without one, ggml makes and joins threads for every graph,
// which costs several percent of a small model's step.
class threadpool {
  public:
    threadpool(llama_context * context, int n_threads, int n_threads_batch);
    ~threadpool();
    threadpool(const threadpool &) = delete;

    // Let another context compute with these threads: two pools would spin against each other.
    void attach(llama_context * other);
    void detach(llama_context * other);

    // A forked child has none of its parent's threads: give it new ones.
    void revive();

  private:
    void create();

    std::vector<llama_context *> contexts;
    int               n_threads;
    long              process = 0;
    ggml_threadpool_t pool    = nullptr;
};

}  // namespace gollama
