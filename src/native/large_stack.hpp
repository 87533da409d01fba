#pragma once

#include "guard.hpp"

#include <climits>
#include <exception>
#include <functional>

#if defined(_WIN32)
#    define WIN32_LEAN_AND_MEAN
#    define NOMINMAX
#    include <process.h>
#    include <windows.h>
#else
#    include <pthread.h>
#endif

namespace gollama {

// Runs `body` on a thread with a stack of that many bytes, and throws here what it throws; `otherwise` says why there is none.
inline void on_large_stack(size_t bytes, const char * otherwise, const std::function<void()> & body) {
    struct job {
        const std::function<void()> & body;
        std::exception_ptr            thrown;

        void run() noexcept {
            try {
                assertion_guard guard;
                body();
            } catch (...) {
                thrown = std::current_exception();
            }
        }
    } work { body, nullptr };

#if defined(_WIN32)
    const auto run = [](void * data) -> unsigned {
        static_cast<job *>(data)->run();
        return 0;
    };
    unsigned (__stdcall * const start)(void *) = run;
    const auto thread  = reinterpret_cast<HANDLE>(
        bytes > UINT_MAX ? 0 : _beginthreadex(nullptr, static_cast<unsigned>(bytes), start, &work, STACK_SIZE_PARAM_IS_A_RESERVATION, nullptr));
    const bool started = thread != nullptr;
    if (started) {
        WaitForSingleObject(thread, INFINITE);
        CloseHandle(thread);
    }
#else
    const auto run = [](void * data) -> void * {
        static_cast<job *>(data)->run();
        return nullptr;
    };
    pthread_attr_t attributes;
    pthread_t      thread;
    pthread_attr_init(&attributes);
    const bool started = pthread_attr_setstacksize(&attributes, bytes) == 0 && pthread_create(&thread, &attributes, run, &work) == 0;
    pthread_attr_destroy(&attributes);
    if (started) {
        pthread_join(thread, nullptr);
    }
#endif
    if (!started) {
        throw failure(GOLLAMA_OUT_OF_MEMORY, otherwise);
    }
    if (work.thrown) {
        std::rethrow_exception(work.thrown);
    }
}

}  // namespace gollama
