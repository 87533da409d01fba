// Tokens and text.
#include "guard.hpp"

#include <algorithm>

extern "C" {

int32_t gollama_tokenize(const llama_vocab * vocab, const char * text, int32_t length, llama_token * tokens,
                         int32_t capacity, bool add_special, bool parse_special, gollama_error * error) {
    return gollama::guarded(error, -1, [&] {
        const int32_t count = llama_tokenize(vocab, text, length, tokens, capacity, add_special, parse_special);
        if (count == INT32_MIN) {
            throw gollama::failure(GOLLAMA_INVALID_ARGUMENT, "the text has more tokens than can be counted");
        }
        return count;
    });
}

int32_t gollama_detokenize(const llama_vocab * vocab, const llama_token * tokens, int32_t count, char * text,
                           int32_t capacity, bool special, bool start, gollama_error * error) {
    return gollama::guarded(error, -1, [&] {
        const int32_t n_vocab = llama_vocab_n_tokens(vocab);
        // only these carry a space in front that is not part of the text, and only they do no clean-up,
        // so llama_detokenize of one token tells whether there is one
        const auto type    = llama_vocab_type(vocab);
        const bool spaced  = type == LLAMA_VOCAB_TYPE_SPM || type == LLAMA_VOCAB_TYPE_UGM;
        int32_t    total   = 0;
        for (int32_t i = 0; i < count; i++) {
            if (tokens[i] < 0 || tokens[i] >= n_vocab) {
                throw gollama::failure(GOLLAMA_INVALID_ARGUMENT,
                                       "token " + std::to_string(tokens[i]) + " is not in the vocabulary of " +
                                           std::to_string(n_vocab) + " tokens");
            }
            const int32_t room  = std::max(capacity - total, 0);
            char *        place = text + std::min(total, capacity);
            const int32_t written =
                start && spaced && total == 0
                    ? llama_detokenize(vocab, tokens + i, 1, place, room, false, special)
                    : llama_token_to_piece(vocab, tokens[i], place, room, 0, special);
            start = start && llama_vocab_is_control(vocab, tokens[i]);
            total += written < 0 ? -written : written;
        }
        return total > capacity ? -total : total;
    });
}

}  // extern "C"
