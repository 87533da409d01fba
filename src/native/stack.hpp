#pragma once

namespace gollama {

// The lowest address that this thread's stack may grow down to with enough left for what calls nothing of ours.
char * lowest_stack_address();

}  // namespace gollama
