#pragma once

#include "common.h"  // llama.cpp's
#include "json.h"

namespace gollama {

// Puts what `chat`, of gollama_sampling, asks for into the sampler's parameters.
void take_chat(const llama_vocab * vocab, const common_json & chat, common_params_sampling & out);

}  // namespace gollama
