// Log probabilities straight from the logits, without sorting the vocabulary.
#include "logprobs.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

// the same loops for the vector units of newer processors, chosen when the library is loaded
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#    define VECTORIZED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), optimize("O3", "fast-math")))
#else
#    define VECTORIZED
#endif

namespace gollama {

static const int32_t BLOCK = 1024;

VECTORIZED static float block_maximum(const float * values, int32_t count) {
    float most = values[0];
    for (int32_t i = 1; i < count; i++) {
        most = values[i] > most ? values[i] : most;
    }
    return most;
}

// exp(x) for x <= 0 within 2 ulp: 2^n times a polynomial for the rest (Cephes' expf, whose coefficients these are).
// Written out since a call to expf cannot be vectorized without -lmvec.
VECTORIZED static float block_sum_exp(const float * values, int32_t count, float most) {
    float sum = 0;
    for (int32_t i = 0; i < count; i++) {
        const float   below    = values[i] - most;
        const float   x        = below < -87.0f ? -87.0f : below;
        const float   scaled   = x * 1.44269504088896341f;
        const int32_t n        = static_cast<int32_t>(scaled - 0.5f);
        const float   r        = x - static_cast<float>(n) * 0.693359375f + static_cast<float>(n) * 2.12194440e-4f;
        float         p        = 1.9875691500e-4f;
        p                      = p * r + 1.3981999507e-3f;
        p                      = p * r + 8.3334519073e-3f;
        p                      = p * r + 4.1665795894e-2f;
        p                      = p * r + 1.6666665459e-1f;
        p                      = p * r + 5.0000001201e-1f;
        p                      = p * r * r + r + 1.0f;
        const int32_t exponent = (n + 127) << 23;
        float         power;
        std::memcpy(&power, &exponent, sizeof(power));
        sum += p * power;
    }
    return sum;
}

// The largest value, and the start of the block that it is first in.
static float maximum(const float * logits, int32_t count, int32_t & block) {
    float most = logits[0];
    block      = 0;
    for (int32_t start = 0; start < count; start += BLOCK) {
        const float largest = block_maximum(logits + start, std::min(BLOCK, count - start));
        if (largest > most) {
            most  = largest;
            block = start;
        }
    }
    return most;
}

float log_sum_exp(const float * logits, int32_t count) {
    int32_t     block;
    const float most = maximum(logits, count, block);
    if (!std::isfinite(most)) {
        return most;
    }
    double sum = 0;  // over blocks, so that the float error does not grow with the vocabulary
    for (int32_t start = 0; start < count; start += BLOCK) {
        sum += block_sum_exp(logits + start, std::min(BLOCK, count - start), most);
    }
    return most + static_cast<float>(std::log(sum));
}

int32_t index_of_largest(const float * logits, int32_t count) {
    int32_t     block;
    const float most = maximum(logits, count, block);
    for (int32_t i = block; i < count; i++) {
        if (logits[i] == most) {
            return i;
        }
    }
    return 0;  // nothing but NaN
}

void largest(const float * logits, int32_t count, int32_t k, llama_token * tokens, float * values) {
    using entry        = std::pair<float, llama_token>;
    const auto better  = [](const entry & a, const entry & b) { return a.first > b.first || (a.first == b.first && a.second < b.second); };
    std::vector<entry> heap;  // its front is the worst of the best
    heap.reserve(k + 1);
    for (int32_t start = 0; start < count && k > 0; start += BLOCK) {
        const int32_t end = std::min(start + BLOCK, count);
        if (static_cast<int32_t>(heap.size()) == k && block_maximum(logits + start, end - start) <= heap.front().first) {
            continue;
        }
        for (int32_t i = start; i < end; i++) {
            if (static_cast<int32_t>(heap.size()) < k) {
                heap.emplace_back(logits[i], i);
                std::push_heap(heap.begin(), heap.end(), better);
            } else if (logits[i] > heap.front().first) {
                std::pop_heap(heap.begin(), heap.end(), better);
                heap.back() = { logits[i], i };
                std::push_heap(heap.begin(), heap.end(), better);
            }
        }
    }
    std::sort_heap(heap.begin(), heap.end(), better);
    for (size_t i = 0; i < heap.size(); i++) {
        tokens[i] = heap[i].second;
        values[i] = heap[i].first;
    }
}

}  // namespace gollama
