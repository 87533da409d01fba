#pragma once

#include "guard.hpp"

#include <exception>
#include <functional>

#if !defined(_WIN32)
#    include <pthread.h>
#endif

namespace gollama {

// Runs `body` on a thread with a stack of that many bytes, and throws here what it throws.
inline void on_large_stack(size_t bytes, const std::function<void()> & body) {
#if defined(_WIN32)
    (void) bytes;
    body();
#else
    struct job {
        const std::function<void()> & body;
        std::exception_ptr            thrown;
    } work { body, nullptr };

    pthread_attr_t attributes;
    pthread_t      thread;
    pthread_attr_init(&attributes);
    const auto run = [](void * data) -> void * {
        auto * work = static_cast<job *>(data);
        try {
            assertion_guard guard;
            work->body();
        } catch (...) {
            work->thrown = std::current_exception();
        }
        return nullptr;
    };
    const bool started = pthread_attr_setstacksize(&attributes, bytes) == 0 && pthread_create(&thread, &attributes, run, &work) == 0;
    pthread_attr_destroy(&attributes);
    if (!started) {
        throw failure(GOLLAMA_OUT_OF_MEMORY, "the text has a run of one kind of characters too long to be tokenized in the memory at hand");
    }
    pthread_join(thread, nullptr);
    if (work.thrown) {
        std::rethrow_exception(work.thrown);
    }
#endif
}

}  // namespace gollama
