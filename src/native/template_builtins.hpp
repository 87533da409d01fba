#pragma once

#include <string>

namespace gollama {

// Puts a check in front of each function that llama.cpp's Jinja engine knows (filters, tests, methods), for all of the
// process; it does nothing on a thread without a template_meter. Idempotent.
void guard_builtins();

// Whether a filter of that name may turn a list or dict that it is given into text before anything is checked.
bool may_write_out(const std::string & filter);

}  // namespace gollama
