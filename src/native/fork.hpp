#pragma once

namespace gollama {

// From now on a fork waits until nobody holds ggml's lock, so that the child can take it.
void survive_forks();

}  // namespace gollama
