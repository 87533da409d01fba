#pragma once

#include "gollama.h"

#include "sampling.h"  // common

#include <vector>

struct gollama_sampler {
    common_sampler_ptr sampler;
    bool               greedy = false;  // nothing but bans stands between the logits and the largest of them
    std::vector<llama_token> banned;

    llama_token sample(llama_context * context, int32_t row) const;
};
