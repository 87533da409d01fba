#pragma once

#include <cstdint>

namespace gollama {

// Throws failure(GOLLAMA_INVALID_MODEL) with a sentence if the file at `path` is not a GGUF file whose header, sizes
// and vocabulary llama.cpp can take. Reads the metadata only. The result is the number of positions that the model has
// learned embeddings for, which no context may pass, or 0 if it computes them.
int32_t check_gguf(const char * path);

// The same for any GGUF file: that it is one, whose tensors lie within it.
void check_container(const char * path);

// The same for a control vector of a model with these sizes: its tensors are directions of the model's width, for layers that it has.
void check_control_vector(const char * path, int32_t n_embd, int32_t n_layer);

}  // namespace gollama
