#include "stack.hpp"

#include <algorithm>
#include <cstddef>

#if !defined(_WIN32)
#    include <pthread.h>
#endif

namespace gollama {

static const size_t UNKNOWN = 512 << 10;  // what any thread has
static const size_t MOST    = 8 << 20;    // even where the stack is unlimited

static char * find_lowest(char * here) {
    size_t size = 0;
    char * end  = nullptr;  // the lower
#if defined(__APPLE__)
    size = pthread_get_stacksize_np(pthread_self());
    end  = static_cast<char *>(pthread_get_stackaddr_np(pthread_self())) - size;
#elif defined(__linux__)
    pthread_attr_t attributes;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        void * address = nullptr;
        size_t guard   = 0;
        pthread_attr_getstack(&attributes, &address, &size);
        pthread_attr_getguardsize(&attributes, &guard);
        pthread_attr_destroy(&attributes);
        end = static_cast<char *>(address) + guard;
    }
#endif
    if (end == nullptr || end > here) {
        end  = here - UNKNOWN;
        size = UNKNOWN;
    }
    const size_t reserve = std::min<size_t>(std::max<size_t>(size / 4, 64 << 10), 512 << 10);
    return std::max(end + reserve, here - MOST);
}

char * lowest_stack_address() {
    char                       here;
    static thread_local char * lowest = find_lowest(&here);
    return lowest;
}

}  // namespace gollama
