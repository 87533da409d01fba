#include "guard.hpp"

#include "ggml.h"

#include <cstdio>
#include <cstring>

namespace gollama {

static thread_local int guards = 0;

// ggml calls this instead of printing, and calls abort() when it returns. The exception unwinds through C frames,
// which every supported platform gives unwind tables.
static void on_abort(const char * message) {
    if (guards > 0) {
        throw assertion(message);
    }
    std::fprintf(stderr, "%s\n", message);
}

void assertion_guard::install() { ggml_set_abort_callback(on_abort); }

assertion_guard::assertion_guard() { guards++; }
assertion_guard::~assertion_guard() { guards--; }

void fail(gollama_error * error, gollama_code code, const char * message) {
    error->code = code;
    std::snprintf(error->message, sizeof(error->message), "%s", message);
}

}  // namespace gollama
