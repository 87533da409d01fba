#pragma once

namespace gollama {

// Throws failure(GOLLAMA_INVALID_ARGUMENT) for a chat template whose parts are nested so deeply, or chained so long,
// that llama.cpp's recursive Jinja engine would run out of stack. Real templates stay far below the limits.
void check_template(const char * source);

}  // namespace gollama
