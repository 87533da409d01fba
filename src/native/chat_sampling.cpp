// What a chat's format asks of the sampler: its grammar, the tokens that are part of the answer's text, the thinking's budget.
#include "chat_sampling.hpp"

#include "guard.hpp"


namespace gollama {

static std::vector<llama_token> tokens_of(const llama_vocab * vocab, const std::string & text) {
    return common_tokenize(vocab, text, false, true);
}

static void take_triggers(const llama_vocab * vocab, const common_json & triggers, common_params_sampling & out) {
    for (const auto & given : triggers) {
        common_grammar_trigger trigger;
        trigger.type  = static_cast<common_grammar_trigger_type>(given.at("type").get<int>());
        trigger.value = given.at("value").get<std::string>();
        trigger.token = given.at("token").get<int>();
        if (trigger.type == COMMON_GRAMMAR_TRIGGER_TYPE_WORD) {
            const auto tokens = tokens_of(vocab, trigger.value);
            if (tokens.size() == 1) {
                trigger.type  = COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN;
                trigger.token = tokens[0];
            }
        }
        out.grammar_triggers.push_back(trigger);
    }
    if (out.grammar_triggers.empty()) {
        throw failure(GOLLAMA_INVALID_ARGUMENT, "a grammar that waits for a trigger, and there is none");
    }
}

static void take_thinking(const llama_vocab * vocab, const common_json & chat, common_params_sampling & out) {
    const auto start = chat.at("thinking_start").get<std::string>();
    if (start.empty() || chat.at("thinking_ends").empty()) {
        return;
    }
    out.reasoning_budget_tokens = chat.at("thinking_budget").get<int>();
    out.reasoning_budget_start  = tokens_of(vocab, start);
    for (const auto & end : chat.at("thinking_ends")) {
        if (!end.get<std::string>().empty()) {
            out.reasoning_budget_end.push_back(tokens_of(vocab, end.get<std::string>()));
        }
    }
    if (!out.reasoning_budget_end.empty()) {
        out.reasoning_budget_forced = tokens_of(vocab, chat.at("thinking_message").get<std::string>());
        const auto & end            = out.reasoning_budget_end.front();
        out.reasoning_budget_forced.insert(out.reasoning_budget_forced.end(), end.begin(), end.end());
    }
}

void take_chat(const llama_vocab * vocab, const common_json & chat, common_params_sampling & out) {
    const auto grammar = chat.at("grammar").get<std::string>();
    out.generation_prompt = chat.at("generation_prompt").get<std::string>();
    if (!grammar.empty()) {
        // the answer begins with the generation prompt, which llama.cpp lets such a grammar read first
        out.grammar      = common_grammar(COMMON_GRAMMAR_TYPE_TOOL_CALLS, grammar);
        out.grammar_lazy = chat.at("grammar_lazy").get<bool>();
        if (out.grammar_lazy) {
            take_triggers(vocab, chat.at("grammar_triggers"), out);
        }
    }
    for (const auto & text : chat.at("preserved_tokens")) {
        const auto tokens = tokens_of(vocab, text.get<std::string>());
        if (tokens.size() == 1) {  // others are plain text anyway
            out.preserved_tokens.insert(tokens[0]);
        }
    }
    take_thinking(vocab, chat, out);
}

}  // namespace gollama
