#pragma once

#include "llama.h"

namespace gollama {

// How many positions a loaded model has learned embeddings for; 0 if it computes them. llama.h does not tell.
int32_t learned_positions(const llama_model * model);

}  // namespace gollama
