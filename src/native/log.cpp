// llama.cpp's log: fragments joined to lines, errors kept per thread for the exceptions, lines handed to one callback.
#include "fork.hpp"
#include "guard.hpp"

#include "log.h"  // common
#include "mtmd-helper.h"

#include <atomic>
#include <climits>

namespace gollama {

static std::atomic<gollama_log_callback> callback { nullptr };
static std::atomic<int>                  least_level { GGML_LOG_LEVEL_WARN };

struct pending_line {
    std::string text;
    int         level = GGML_LOG_LEVEL_INFO;
};

static thread_local pending_line pending;
static thread_local std::string  errors;

static const size_t LONGEST_ERROR = 800;

static void emit(int level, const std::string & line) {
    if (level == GGML_LOG_LEVEL_ERROR && errors.size() < LONGEST_ERROR) {
        errors += (errors.empty() ? "" : "; ") + line;
    }
    const auto target = callback.load();
    if (target && level >= least_level.load() && !line.empty()) {
        target(level, line.c_str());
    }
}

static void on_log(ggml_log_level level, const char * text, void *) {
    if (level != GGML_LOG_LEVEL_CONT) {
        pending.level = level;
    }
    for (const char * c = text; *c; c++) {
        if (*c == '\n') {
            emit(pending.level, pending.text);
            pending.text.clear();
        } else {
            pending.text += *c;
        }
    }
}

void clear_logged_errors() {
    errors.clear();
    pending.text.clear();
}

std::string take_logged_errors() {
    std::string result;
    result.swap(errors);
    return result;
}

}  // namespace gollama

extern "C" {

void gollama_start(gollama_log_callback log) {
    gollama::callback = log;
    llama_log_set(gollama::on_log, nullptr);
    mtmd_log_set(gollama::on_log, nullptr);
    mtmd_helper_log_set(gollama::on_log, nullptr);
    // the common layer's logger writes to the terminal from a thread of its own; its failures reach us as exceptions
    common_log_set_verbosity_thold(INT_MIN);
    gollama::assertion_guard::install();
    gollama::survive_forks();
    llama_backend_init();
}

void gollama_set_log_level(int32_t level) { gollama::least_level = level; }

}  // extern "C"
