#pragma once

#include "chat.h"  // common

namespace gollama {

// common_chat_templates_init, of templates that cannot hang or end the process: whoever runs one under a template_meter
// gets an exception instead. Throws failure(GOLLAMA_INVALID_ARGUMENT), with the line, for one that does not parse.
common_chat_templates_ptr load_templates(const llama_model * model, const char * source);

}  // namespace gollama
