// Sampling through llama.cpp's common sampler: every sampler, and grammars by check-then-resample.
#include "sampler.hpp"

#include "chat_sampling.hpp"
#include "guard.hpp"
#include "logprobs.hpp"
#include "llama-grammar.h"  // llama.cpp's src: its parser tells what is wrong with a grammar

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

namespace gollama {

// llama.cpp's grammar parser and its left-recursion check are recursive; these bound how deep they go.
static const int    DEEPEST_NESTING = 200;
static const size_t MOST_RULES      = 20000;

// Behind blanks, ends of lines and comments.
static const char * skip_blanks(const char * at) {
    while (*at && std::strchr(" \t\r\n#", *at)) {
        at = *at == '#' ? at + std::strcspn(at, "\r\n") : at + 1;
    }
    return at;
}

// A repetition {least,most}, behind its brace. Where the least is above the most, llama.cpp's parser makes rules without end.
static void check_repetition(const char * at) {
    const auto number = [&] {
        at = skip_blanks(at);
        at += std::strspn(at, "0");
        const size_t length = std::strspn(at, "0123456789");
        at += length;
        return std::string(at - length, length);
    };
    const std::string least = number();
    at                      = skip_blanks(at);
    if (*at != ',') {
        return;
    }
    at = skip_blanks(at + 1);
    if (*at < '0' || *at > '9') {  // no most
        return;
    }
    const std::string most = number();
    if (least.size() > most.size() || (least.size() == most.size() && least > most)) {
        throw failure(GOLLAMA_INVALID_ARGUMENT, "the grammar repeats something at least " + least + " times and at most " +
                                                    (most.empty() ? "0" : most));
    }
}

// What llama.cpp's parser does not survive.
static void check_text(const char * grammar) {
    int  depth   = 0;
    char closing = 0;  // of the literal, character class or comment that we are in
    for (const char * c = grammar; *c; c++) {
        if (closing) {
            if (*c == '\\' && c[1] && closing != '\n') {
                c++;  // what is escaped closes nothing
            } else if (*c == closing || (closing == '\n' && *c == '\r')) {
                closing = 0;
            }
        } else if (*c == '"' || *c == '[' || *c == '#') {
            closing = *c == '"' ? '"' : *c == '[' ? ']' : '\n';
        } else if (*c == '{') {
            check_repetition(c + 1);
        } else if ((depth += (*c == '(') - (*c == ')')) > DEEPEST_NESTING) {
            throw failure(GOLLAMA_INVALID_ARGUMENT, "the grammar's parentheses are nested deeper than " + std::to_string(DEEPEST_NESTING));
        }
    }
}

// llama_grammar_parser::parse prints its error to stderr and keeps it from us, so its steps are taken here:
// parse_rule throws, and a grammar without a root is told before the sampler asks for it.
static void check_grammar(const llama_vocab * vocab, const char * grammar) {
    check_text(grammar);
    llama_grammar_parser parser(vocab);
    const char *         at = skip_blanks(grammar);
    try {
        while (*at) {
            at = parser.parse_rule(at);
            if (parser.rules.size() > MOST_RULES) {
                throw std::runtime_error("it has more than " + std::to_string(MOST_RULES) + " rules");
            }
        }
    } catch (const std::exception & e) {
        // the parser's messages end with what is left of the text, which may be nothing
        const std::string words = e.what();
        const bool        ended = words.size() > 4 && words.compare(words.size() - 4, 4, " at ") == 0;
        throw failure(GOLLAMA_INVALID_ARGUMENT, "the grammar does not parse: " + words + (ended ? "its end" : ""));
    }
    for (const auto & symbol : parser.symbol_ids) {
        if (symbol.second >= parser.rules.size() || parser.rules[symbol.second].empty()) {
            throw failure(GOLLAMA_INVALID_ARGUMENT, "the grammar uses the rule '" + symbol.first + "' and does not define it");
        }
    }
    if (parser.symbol_ids.find("root") == parser.symbol_ids.end()) {
        throw failure(GOLLAMA_INVALID_ARGUMENT, "the grammar has no rule named 'root'");
    }
}

static common_params_sampling to_common(const llama_vocab * vocab, const gollama_sampling & in) {
    common_params_sampling out;
    out.no_perf            = true;
    out.seed               = in.seed;
    out.top_k              = in.top_k;
    out.top_p              = in.top_p;
    out.min_p              = in.min_p;
    out.typ_p              = in.typical_p;
    out.temp               = in.temperature;
    out.dynatemp_range     = in.dynamic_temperature_range;
    out.dynatemp_exponent  = in.dynamic_temperature_exponent;
    out.top_n_sigma        = in.top_n_sigma;
    out.xtc_probability    = in.xtc_probability;
    out.xtc_threshold      = in.xtc_threshold;
    out.penalty_last_n     = in.repeat_last_n;
    out.penalty_repeat     = in.repeat_penalty;
    out.penalty_freq       = in.frequency_penalty;
    out.penalty_present    = in.presence_penalty;
    out.dry_multiplier     = in.dry_multiplier;
    out.dry_base           = in.dry_base;
    out.dry_allowed_length = in.dry_allowed_length;
    out.dry_penalty_last_n = in.dry_penalty_last_n;
    out.mirostat           = in.mirostat;
    out.mirostat_tau       = in.mirostat_tau;
    out.mirostat_eta       = in.mirostat_eta;
    out.dry_sequence_breakers.assign(in.dry_sequence_breakers, in.dry_sequence_breakers + in.n_dry_sequence_breakers);
    out.logit_bias.assign(in.logit_bias, in.logit_bias + in.n_logit_bias);
    const int32_t n_vocab = llama_vocab_n_tokens(vocab);
    for (const auto & bias : out.logit_bias) {
        if (bias.token < 0 || bias.token >= n_vocab) {
            throw failure(GOLLAMA_INVALID_ARGUMENT, "logit_bias names token " + std::to_string(bias.token) +
                                                        ", which is not in the vocabulary of " +
                                                        std::to_string(n_vocab) + " tokens");
        }
    }
    if (in.temperature <= 0 && in.mirostat == 0 && in.xtc_probability <= 0 && in.typical_p >= 1) {
        // the likeliest token survives every truncation, so one pass for it gives what the whole chain would
        out.samplers = { COMMON_SAMPLER_TYPE_PENALTIES, COMMON_SAMPLER_TYPE_DRY, COMMON_SAMPLER_TYPE_TOP_K };
        out.top_k    = 1;
    }
    if (in.grammar) {
        check_grammar(vocab, in.grammar);
        out.grammar      = common_grammar(COMMON_GRAMMAR_TYPE_USER, in.grammar);
        out.grammar_lazy = in.n_grammar_triggers > 0;
        for (size_t i = 0; i < in.n_grammar_triggers; i++) {
            out.grammar_triggers.push_back({ COMMON_GRAMMAR_TRIGGER_TYPE_WORD, in.grammar_triggers[i], LLAMA_TOKEN_NULL });
        }
    }
    if (in.chat) {
        take_chat(vocab, common_json::parse(in.chat), out);
        if (!out.grammar.empty()) {
            check_grammar(vocab, common_grammar_value(out.grammar).c_str());
        }
    }
    return out;
}

// Whether the likeliest token that is not banned and that the grammar allows is what the sampler would choose. The common
// sampler copies the vocabulary for that, which for sixteen sequences and 262,144 tokens costs a tenth of the step, and tries all of
// it on the grammar wherever the likeliest is not allowed, which takes as long as a step of a small model.
static bool is_greedy(const common_params_sampling & params) {
    const bool bans_only = std::all_of(params.logit_bias.begin(), params.logit_bias.end(),
                                       [](const llama_logit_bias & bias) { return bias.bias == -INFINITY; });
    return params.temp <= 0 && params.mirostat == 0 && params.xtc_probability <= 0 && params.typ_p >= 1 &&
           params.penalty_repeat == 1 && params.penalty_freq == 0 && params.penalty_present == 0 && params.dry_multiplier == 0 &&
           bans_only && !params.grammar_lazy &&
           (params.reasoning_budget_start.empty() || params.reasoning_budget_tokens < 0);
}

// The grammar of a sampler that is greedy, behind what the template already put into the prompt, as common_sampler_init has it.
static llama_sampler_ptr take_grammar(const llama_vocab * vocab, common_params_sampling & params) {
    if (common_grammar_value(params.grammar).empty()) {
        return nullptr;
    }
    llama_sampler_ptr grammar(llama_sampler_init_grammar(vocab, common_grammar_value(params.grammar).c_str(), "root"));
    if (!grammar) {
        throw failure(GOLLAMA_INVALID_ARGUMENT, with_log("llama.cpp cannot use the grammar"));
    }
    if (common_grammar_needs_prefill(params.grammar)) {
        const auto tokens = common_tokenize(vocab, params.generation_prompt, false, true);
        for (size_t i = 0; i < tokens.size(); i++) {
            const std::string piece = common_token_to_piece(vocab, tokens[i], true);
            // the space that some tokenizers put before the first token
            if (i > 0 || !std::isspace(static_cast<unsigned char>(piece[0])) ||
                std::isspace(static_cast<unsigned char>(params.generation_prompt[0]))) {
                llama_sampler_accept(grammar.get(), tokens[i]);
            }
        }
    }
    params.grammar = {};
    return grammar;
}

static std::vector<llama_token> banned_tokens(const llama_vocab * vocab, const common_params_sampling & params) {
    int32_t                  n_suppressed = 0;
    const llama_token *      suppressed   = llama_vocab_get_suppress_tokens(vocab, &n_suppressed);
    std::vector<llama_token> banned(suppressed, suppressed + n_suppressed);
    for (const auto & bias : params.logit_bias) {
        banned.push_back(bias.token);
    }
    std::sort(banned.begin(), banned.end());
    return banned;
}

}  // namespace gollama

llama_token gollama_sampler::sample(llama_context * context, int32_t row) const {
    if (greedy) {
        const int32_t     n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(context)));
        const float *     logits  = llama_get_logits_ith(context, row);
        const llama_token token   = gollama::index_of_largest(logits, n_vocab);
        if (grammar) {
            return likeliest_allowed(logits, n_vocab, token);
        }
        if (!is_banned(token)) {
            return token;
        }
    }
    return common_sampler_sample(sampler.get(), context, row);
}

// The first candidate that the grammar allows; LLAMA_TOKEN_NULL if it allows none. Bans must be out of them.
llama_token gollama_sampler::first_allowed(std::vector<llama_token_data> & candidates) const {
    llama_token_data_array array = { candidates.data(), candidates.size(), -1, false };
    llama_sampler_apply(grammar.get(), &array);
    for (const auto & candidate : candidates) {
        if (candidate.logit != -INFINITY) {
            return candidate.id;
        }
    }
    return LLAMA_TOKEN_NULL;
}

llama_token gollama_sampler::likeliest_allowed(const float * logits, int32_t n_vocab, llama_token likeliest) const {
    std::vector<llama_token_data> candidates;
    std::vector<llama_token>      tokens(1, likeliest);
    std::vector<float>            values(1);
    for (int32_t count = 1;; count = std::min(count == 1 ? 32 : 32 * count, n_vocab)) {
        if (count > 1) {
            tokens.resize(count);
            values.resize(count);
            gollama::largest(logits, n_vocab, count, tokens.data(), values.data());
        }
        candidates.clear();
        for (const llama_token token : tokens) {
            if (!is_banned(token)) {
                candidates.push_back({ token, 0.0f, 0.0f });
            }
        }
        const llama_token found = first_allowed(candidates);
        if (found != LLAMA_TOKEN_NULL) {
            return found;
        }
        if (count == n_vocab) {
            return likeliest;  // nothing may follow, which the grammar says when it takes this
        }
    }
}

void gollama_sampler::accept(llama_token token, bool generated) {
    common_sampler_accept(sampler.get(), token, generated);
    if (grammar && generated) {
        llama_sampler_accept(grammar.get(), token);
    }
}

extern "C" {

gollama_sampling gollama_sampling_default(void) {
    const common_params_sampling in;
    gollama_sampling             out = {};
    out.seed                         = in.seed;
    out.top_k                        = in.top_k;
    out.top_p                        = in.top_p;
    out.min_p                        = in.min_p;
    out.typical_p                    = in.typ_p;
    out.temperature                  = in.temp;
    out.dynamic_temperature_range    = in.dynatemp_range;
    out.dynamic_temperature_exponent = in.dynatemp_exponent;
    out.top_n_sigma                  = in.top_n_sigma;
    out.xtc_probability              = in.xtc_probability;
    out.xtc_threshold                = in.xtc_threshold;
    out.repeat_last_n                = in.penalty_last_n;
    out.repeat_penalty               = in.penalty_repeat;
    out.frequency_penalty            = in.penalty_freq;
    out.presence_penalty             = in.penalty_present;
    out.dry_multiplier               = in.dry_multiplier;
    out.dry_base                     = in.dry_base;
    out.dry_allowed_length           = in.dry_allowed_length;
    out.dry_penalty_last_n           = in.dry_penalty_last_n;
    out.mirostat                     = in.mirostat;
    out.mirostat_tau                 = in.mirostat_tau;
    out.mirostat_eta                 = in.mirostat_eta;
    return out;
}

const char * gollama_dry_sequence_breaker_default(size_t index) {
    static const common_params_sampling defaults;
    return index < defaults.dry_sequence_breakers.size() ? defaults.dry_sequence_breakers[index].c_str() : nullptr;
}

gollama_sampler * gollama_sampler_new(const llama_model * model, const gollama_sampling * sampling, gollama_error * error) {
    return gollama::guarded(error, static_cast<gollama_sampler *>(nullptr), [&] {
        const llama_vocab * vocab = llama_model_get_vocab(model);
        if (llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_NONE) {
            throw gollama::failure(GOLLAMA_INVALID_ARGUMENT, "the model has no vocabulary to sample from");
        }
        auto params = gollama::to_common(vocab, *sampling);
        auto result = std::make_unique<gollama_sampler>();
        result->greedy = gollama::is_greedy(params);
        if (result->greedy) {
            result->banned  = gollama::banned_tokens(vocab, params);
            result->grammar = gollama::take_grammar(vocab, params);
        }
        result->preserved.assign(params.preserved_tokens.begin(), params.preserved_tokens.end());
        result->sampler.reset(common_sampler_init(model, params));
        return result.release();
    });
}

void gollama_sampler_free(gollama_sampler * sampler) { delete sampler; }

bool gollama_sampler_reset(gollama_sampler * sampler, gollama_error * error) {
    return gollama::guarded(error, false, [&] {
        common_sampler_reset(sampler->sampler.get());
        if (sampler->grammar) {
            llama_sampler_reset(sampler->grammar.get());
        }
        return true;
    });
}

bool gollama_sampler_accept(gollama_sampler * sampler, const llama_token * tokens, int32_t count, bool generated,
                            gollama_error * error) {
    return gollama::guarded(error, false, [&] {
        for (int32_t i = 0; i < count; i++) {
            sampler->accept(tokens[i], generated);
        }
        return true;
    });
}

int32_t gollama_sampler_describe(const gollama_sampler * sampler, char * text, int32_t capacity, gollama_error * error) {
    return gollama::guarded(error, -1, [&] {
        const std::string description = common_sampler_print(sampler->sampler.get());
        const auto        length      = static_cast<int32_t>(description.size());
        if (length > capacity) {
            return -length;
        }
        std::memcpy(text, description.data(), description.size());
        return length;
    });
}

}  // extern "C"
