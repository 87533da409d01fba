#pragma once

namespace gollama {

// Throws failure(GOLLAMA_INVALID_MODEL) with a sentence if the file at `path` is not a GGUF file whose header, sizes
// and vocabulary llama.cpp can take. Reads the metadata only.
void check_gguf(const char * path);

}  // namespace gollama
