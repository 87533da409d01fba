#pragma once

#include "gollama.h"

#include "sampling.h"  // common

#include <algorithm>
#include <vector>

struct gollama_sampler {
    common_sampler_ptr sampler;
    bool               greedy = false;  // nothing but bans stands between the logits and the largest of them
    std::vector<llama_token> banned;
    std::vector<llama_token> preserved;  // control tokens that are part of the text; sorted, as the banned ones

    llama_token sample(llama_context * context, int32_t row) const;
    bool        shows(llama_token token) const { return std::binary_search(preserved.begin(), preserved.end(), token); }
};
