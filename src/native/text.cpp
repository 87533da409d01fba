// Tokens and text.
#include "guard.hpp"
#include "large_stack.hpp"

#include <algorithm>
#include <cctype>

namespace gollama {

// Many BPE vocabularies split text with std::regex, which recurses for every character of a match. A match is made of
// at most a few runs of one kind of characters; short ones fit any stack.
static const size_t SAFE_RUN        = 2000;
static const size_t STACK_PER_BYTE  = 2048;  // 420 were seen to be needed
static const size_t STACK_BESIDES   = 16 << 20;

static size_t longest_run(const char * text, int32_t length) {
    size_t longest  = 0;
    size_t run      = 0;
    int    previous = -1;
    for (int32_t i = 0; i < length; i++) {
        const auto c    = static_cast<unsigned char>(text[i]);
        const int  kind = c >= 0x80 || std::isalpha(c) ? 0 : std::isdigit(c) ? 1 : std::isspace(c) ? 2 : 3;
        run             = kind == previous ? run + 1 : 1;
        previous        = kind;
        longest         = std::max(longest, run);
    }
    return longest;
}

}  // namespace gollama

extern "C" {

int32_t gollama_end_tokens(const llama_vocab * vocab, llama_token * tokens, int32_t capacity, gollama_error * error) {
    return gollama::guarded(error, -1, [&] {
        int32_t       count   = 0;
        const int32_t n_vocab = llama_vocab_n_tokens(vocab);
        for (llama_token token = 0; token < n_vocab; token++) {
            if (llama_vocab_is_eog(vocab, token)) {
                if (count < capacity) {
                    tokens[count] = token;
                }
                count++;
            }
        }
        return count;
    });
}

int32_t gollama_tokenize(const llama_vocab * vocab, const char * text, int32_t length, llama_token * tokens,
                         int32_t capacity, bool add_special, bool parse_special, gollama_error * error) {
    return gollama::guarded(error, -1, [&] {
        int32_t    count = 0;
        const auto work  = [&] { count = llama_tokenize(vocab, text, length, tokens, capacity, add_special, parse_special); };
        const size_t run = llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_BPE ? gollama::longest_run(text, length) : 0;
        if (run > gollama::SAFE_RUN) {
            gollama::on_large_stack(gollama::STACK_BESIDES + gollama::STACK_PER_BYTE * run,
                                    "the text has a run of one kind of characters too long to be tokenized in the memory at hand", work);
        } else {
            work();
        }
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
