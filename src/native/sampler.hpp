#pragma once

#include "gollama.h"

#include "llama-cpp.h"
#include "sampling.h"  // common

#include <algorithm>
#include <vector>

struct gollama_sampler {
    common_sampler_ptr sampler;
    bool               greedy = false;  // nothing but bans stands between the logits and the largest of them
    llama_sampler_ptr  grammar;         // then all that stands there beside them; the common sampler has none
    std::vector<llama_token> banned;
    std::vector<llama_token> preserved;  // control tokens that are part of the text; sorted, as the banned ones

    llama_token sample(llama_context * context, int32_t row) const;
    void        accept(llama_token token, bool generated);
    bool        shows(llama_token token) const { return std::binary_search(preserved.begin(), preserved.end(), token); }

  private:
    bool        is_banned(llama_token token) const { return std::binary_search(banned.begin(), banned.end(), token); }
    llama_token likeliest_allowed(const float * logits, int32_t n_vocab, llama_token likeliest) const;
    llama_token first_allowed(std::vector<llama_token_data> & candidates) const;
};
