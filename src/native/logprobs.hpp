#pragma once

#include "llama.h"

#include <cstddef>

namespace gollama {

// log(sum(exp(logits))), with the largest taken out first, so that nothing overflows.
float log_sum_exp(const float * logits, int32_t count);

// The `k` largest logits, best first, ties by index; into `tokens` and `values`.
void largest(const float * logits, int32_t count, int32_t k, llama_token * tokens, float * values);

// The index of the largest logit, the first of equals.
int32_t index_of_largest(const float * logits, int32_t count);

}  // namespace gollama
