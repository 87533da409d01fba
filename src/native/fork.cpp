// A fork takes one thread along: what another one had locked in ggml would stay locked in the child.
#include "fork.hpp"

#if !defined(_WIN32)
#    include <pthread.h>

extern "C" {  // ggml-threading.h of ggml's sources; ggml_init holds it, for every graph
void ggml_critical_section_start(void);
void ggml_critical_section_end(void);
}

void gollama::survive_forks() {
    static const int registered = pthread_atfork(ggml_critical_section_start, ggml_critical_section_end, ggml_critical_section_end);
    (void) registered;
}
#else
void gollama::survive_forks() {}
#endif
