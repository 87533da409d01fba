#pragma once

#include "jinja/runtime.h"  // common

#include <string>

namespace gollama {

// Throws failure(GOLLAMA_INVALID_ARGUMENT) for a chat template that does not parse, with the line, and for one whose parts
// are nested so deeply, or chained so long, that llama.cpp's recursive Jinja engine would run out of stack. Real templates
// stay far below the limits. `source` has no carriage returns.
jinja::program parse_template(const std::string & source);

// "line 3, column 5"
std::string line_and_column(const std::string & source, size_t position);

}  // namespace gollama
