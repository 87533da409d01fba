// Chat through llama.cpp's common layer: its Jinja engine, its parsers of answers. JSON in, JSON out.
#include "guard.hpp"
#include "large_stack.hpp"
#include "stack.hpp"
#include "template_load.hpp"
#include "template_meter.hpp"
#include "template_replay.hpp"

#include "chat-auto-parser.h"  // common
#include "chat.h"
#include "common_chat_templates.h"  // made by tools/compile.py from llama.cpp's chat.cpp

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>

namespace {

const size_t MOST_FORMATS = 256;

// The parser recurses for each value inside another one.
const size_t MOST_BRACKETS     = 1 << 18;
const size_t STACK_PER_BRACKET = 4096;  // 2190 were seen to be needed
const size_t STACK_BESIDES     = 256 << 10;

// How an answer looks and how to read it: everything that llama.cpp tells of a request but the prompt.
struct chat_format {
    common_chat_params params;  // without the prompt and the parser
    common_peg_arena   parser;
    std::string        parser_text;
    int32_t            number;
    bool               same_prompt;  // as without the tools' and the schema's format
};

const int32_t NOT_KEPT = -1;  // the number of a format that no other request has

bool same_format(const chat_format & known, const common_chat_params & b) {
    const auto & a = known.params;
    const auto same_trigger = [](const common_grammar_trigger & one, const common_grammar_trigger & other) {
        return one.type == other.type && one.value == other.value && one.token == other.token;
    };
    return known.parser_text == b.parser && a.grammar == b.grammar && a.format == b.format && a.grammar_lazy == b.grammar_lazy &&
           a.preserved_tokens == b.preserved_tokens && a.additional_stops == b.additional_stops &&
           a.thinking_start_tag == b.thinking_start_tag && a.thinking_end_tags == b.thinking_end_tags &&
           a.supports_thinking == b.supports_thinking &&
           std::equal(a.grammar_triggers.begin(), a.grammar_triggers.end(), b.grammar_triggers.begin(), b.grammar_triggers.end(), same_trigger);
}

using format_ptr = std::shared_ptr<const chat_format>;

// Whether llama.cpp has code of its own for the template that takes part, instead of an analysis.
bool is_special(const common_chat_templates & templates, bool tools) {
    const auto & part = tools && templates.template_tool_use ? *templates.template_tool_use : *templates.template_default;
    autoparser::generation_params params;
    params.messages = common_json::array({ common_json{ { "role", "user" }, { "content", "?" } } });
    try {
        return common_chat_try_specialized_template(part, part.source(), params).has_value();
    } catch (const std::exception &) {
        return true;
    }
}

}  // namespace

struct gollama_chat_templates {
    gollama::template_replay  replay;  // before the templates, which know it
    common_chat_templates_ptr templates;
    std::optional<bool>       special;  // by whether there are tools
    std::optional<bool>       special_tool_use;
    std::map<std::string, format_ptr> formats;  // by the request without its messages, and the generation prompt
    std::map<std::string, std::string> generation_prompts;  // by the request without its messages, and the last one's role
    int32_t                   n_formats = 0;
    format_ptr                last;  // the last request's
    std::string               last_generation_prompt;
    std::string               answer;
    std::string               source;
};

struct gollama_chat_parser {
    format_ptr                format;
    common_chat_parser_params params;
    std::string               answer;
};

namespace {

template <typename Value> Value field(const common_json & options, const char * name, Value fallback) {
    return options.contains(name) ? options.at(name).get<Value>() : fallback;
}

common_chat_templates_inputs read_inputs(const common_chat_templates * templates, const common_json & messages, const common_json & options) {
    common_chat_templates_inputs inputs;
    inputs.messages = common_chat_msgs_parse_oaicompat(messages);
    if (options.contains("tools")) {
        inputs.tools = common_chat_tools_parse_oaicompat(options.at("tools"));
    }
    inputs.tool_choice           = common_chat_tool_choice_parse_oaicompat(field(options, "tool_choice", std::string("auto")));
    const bool parallel          = common_chat_templates_get_caps(templates)["supports_parallel_tool_calls"];
    inputs.parallel_tool_calls   = field(options, "parallel_tool_calls", parallel);
    inputs.json_schema           = options.contains("json_schema") ? options.at("json_schema").dump() : "";
    inputs.grammar               = field(options, "grammar", std::string());
    inputs.use_jinja             = field(options, "use_jinja", true);
    inputs.add_generation_prompt = field(options, "add_generation_prompt", true);
    inputs.enable_thinking       = field(options, "enable_thinking", true);
    inputs.reasoning_format      = common_reasoning_format_from_name(field(options, "reasoning_format", std::string("auto")));
    if (options.contains("continue_final_message")) {
        inputs.continue_final_message = common_chat_continuation_parse(options.at("continue_final_message"));
    }
    if (options.contains("template_kwargs")) {
        for (const auto & item : options.at("template_kwargs").items()) {
            inputs.chat_template_kwargs[item.key()] = item.value().dump();
        }
    }
    if (options.contains("now")) {
        inputs.now = std::chrono::system_clock::time_point(std::chrono::seconds(options.at("now").get<int64_t>()));
    }
    return inputs;
}

// What a request asks of the sampler and of whoever reads the answer.
common_json details(const common_chat_params & params) {
    common_json triggers = common_json::array();
    for (const auto & trigger : params.grammar_triggers) {
        triggers.push_back(common_json{ { "type", static_cast<int>(trigger.type) }, { "value", trigger.value }, { "token", trigger.token } });
    }
    return common_json{
        { "name", common_chat_format_name(params.format) },
        { "grammar", params.grammar },
        { "grammar_lazy", params.grammar_lazy },
        { "grammar_triggers", triggers },
        { "preserved_tokens", params.preserved_tokens },
        { "stops", params.additional_stops },
        { "thinking_start", params.thinking_start_tag },
        { "thinking_ends", params.thinking_end_tags },
        { "supports_thinking", params.supports_thinking },
    };
}

format_ptr new_format(int32_t number, common_chat_params && params, bool same_prompt) {
    auto format = std::make_shared<chat_format>();
    if (!params.parser.empty()) {
        format->parser.load(params.parser);
    }
    format->params             = std::move(params);
    format->params.prompt      = "";
    format->parser_text        = std::move(format->params.parser);
    format->params.parser      = "";
    format->number             = number;
    format->same_prompt        = same_prompt;
    return format;
}

bool ends_with(const std::string & text, const std::string & end) {
    return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// What llama.cpp gives, of whose three renderings the last two are spared where what they find out is known.
common_chat_params render(gollama_chat_templates & self, const common_chat_templates_inputs & inputs, const std::string & options) {
    const auto &       last  = inputs.messages.back();
    const std::string  key   = options + '\0' + last.role + (last.tool_calls.empty() ? "" : "+");
    const auto         known = self.generation_prompts.find(key);
    if (known != self.generation_prompts.end()) {
        self.replay.begin(known->second);
        try {
            common_chat_params rendered = common_chat_templates_apply(self.templates.get(), inputs);
            self.replay.end();
            if (!inputs.add_generation_prompt || ends_with(rendered.prompt, known->second)) {
                return rendered;
            }
        } catch (...) {
            self.replay.end();
            throw;
        }
    }
    common_chat_params rendered = common_chat_templates_apply(self.templates.get(), inputs);
    if (!rendered.generation_prompt.empty()) {
        self.generation_prompts[key] = rendered.generation_prompt;
    }
    return rendered;
}

// llama.cpp analyses most templates anew for every request, which takes longer than all the rest; what it finds does not
// depend on the messages. So the format is kept, and of the next request with the same options only the prompt is made.
std::string apply(gollama_chat_templates & self, const common_chat_templates_inputs & inputs, const std::string & options) {
    const auto * templates = self.templates.get();
    auto & special = inputs.tools.empty() ? self.special : self.special_tool_use;
    if (!special) {
        special = is_special(*templates, !inputs.tools.empty());
    }
    std::string plain_prompt;
    std::string key;
    if (!*special && inputs.use_jinja && inputs.continue_final_message == COMMON_CHAT_CONTINUATION_NONE) {
        common_chat_templates_inputs plain = inputs;  // without what tools and schemas ask of the answer
        plain.force_pure_content           = true;
        common_chat_params rendered        = render(self, plain, options);
        key                         = options + '\0' + rendered.generation_prompt;
        const auto found                   = self.formats.find(key);
        if (found != self.formats.end() && found->second->same_prompt) {
            self.last                   = found->second;
            self.last_generation_prompt = rendered.generation_prompt;
            return rendered.prompt;
        }
        plain_prompt = rendered.prompt;
    }
    const bool         spared   = *special && inputs.use_jinja && inputs.continue_final_message == COMMON_CHAT_CONTINUATION_NONE;
    common_chat_params full     = spared ? render(self, inputs, options) : common_chat_templates_apply(templates, inputs);
    std::string        prompt   = std::move(full.prompt);
    self.last_generation_prompt = full.generation_prompt;
    key                         = options + '\0' + full.generation_prompt;
    if (inputs.continue_final_message != COMMON_CHAT_CONTINUATION_NONE) {
        self.last = new_format(NOT_KEPT, std::move(full), false);  // its parser begins with the message that is continued
        return prompt;
    }
    const bool same_prompt = !plain_prompt.empty() && plain_prompt == prompt;
    const auto known       = self.formats.find(key);
    if (known != self.formats.end() && known->second->same_prompt == same_prompt && same_format(*known->second, full)) {
        self.last = known->second;
        return prompt;
    }
    if (self.formats.size() >= MOST_FORMATS) {
        self.formats.clear();
        self.generation_prompts.clear();
    }
    self.last = self.formats[key] = new_format(self.n_formats++, std::move(full), same_prompt);
    return prompt;
}

common_chat_msg parse(const gollama_chat_parser & parser, const std::string & text, bool partial) {
    common_chat_msg message;
    const auto      work = [&] { message = common_chat_peg_parse(parser.format->parser, text, partial, parser.params); };
    // all of them may be open at once, and which are part of a string only the parser knows
    const size_t brackets = std::count_if(text.begin(), text.end(), [](char c) { return c == '[' || c == '{'; });
    const size_t needed   = STACK_BESIDES + STACK_PER_BRACKET * brackets;
    char         here;
    if (brackets > MOST_BRACKETS) {
        throw gollama::failure(GOLLAMA_INVALID_ARGUMENT, "it has more than " + std::to_string(MOST_BRACKETS) + " brackets");
    }
    if (gollama::lowest_stack_address() + needed < &here) {
        work();
    } else {
        gollama::on_large_stack(needed, "it may be nested too deeply to be read in the memory at hand", work);
    }
    return message;
}

common_json to_json(const common_chat_msg & message) {
    common_json calls = common_json::array();
    for (const auto & call : message.tool_calls) {
        calls.push_back(common_json{ { "name", call.name }, { "arguments", call.arguments }, { "id", call.id } });
    }
    return common_json{ { "content", message.content }, { "reasoning_content", message.reasoning_content }, { "tool_calls", calls } };
}

}  // namespace

extern "C" {

gollama_chat_templates * gollama_chat_templates_new(const llama_model * model, const char * source, gollama_error * error) {
    return gollama::guarded(error, static_cast<gollama_chat_templates *>(nullptr), [&] {
        auto result       = std::make_unique<gollama_chat_templates>();
        result->templates = gollama::load_templates(model, source);
        result->replay.take_part(result->templates->template_default->prog);
        if (result->templates->template_tool_use) {
            result->replay.take_part(result->templates->template_tool_use->prog);
        }
        result->source    = common_chat_templates_source(result->templates.get());
        return result.release();
    });
}

void gollama_chat_templates_free(gollama_chat_templates * templates) { delete templates; }

const char * gollama_chat_templates_source(const gollama_chat_templates * templates) { return templates->source.c_str(); }

const char * gollama_chat_render(gollama_chat_templates * templates, const char * messages, const char * options, gollama_error * error) {
    return gollama::guarded(error, static_cast<const char *>(nullptr), [&] {
        auto &      self   = *templates;
        const auto  given  = common_json::parse(std::string(options));
        const int   before = self.n_formats;
        const auto  inputs = read_inputs(self.templates.get(), common_json::parse(std::string(messages)), given);
        std::string prompt;
        try {
            prompt = gollama::metered(std::strlen(messages) + std::strlen(options), [&] { return apply(self, inputs, options); });
        } catch (...) {
            self.generation_prompts.clear();  // or requests that fail would add to them for ever
            throw;
        }
        common_json answer = { { "prompt", prompt }, { "generation_prompt", self.last_generation_prompt }, { "format", self.last->number } };
        if (self.last->number == NOT_KEPT || self.n_formats > before) {
            answer["details"] = details(self.last->params);
        }
        self.answer = answer.dump_safe();
        return self.answer.c_str();
    });
}

gollama_chat_parser * gollama_chat_parser_new(const gollama_chat_templates * templates, gollama_error * error) {
    return gollama::guarded(error, static_cast<gollama_chat_parser *>(nullptr), [&] {
        if (!templates->last) {
            throw gollama::failure(GOLLAMA_INVALID_ARGUMENT, "nothing was rendered yet");
        }
        auto result    = std::make_unique<gollama_chat_parser>();
        result->format = templates->last;
        result->params = common_chat_parser_params(templates->last->params);
        result->params.generation_prompt = templates->last_generation_prompt;
        return result.release();
    });
}

void gollama_chat_parser_free(gollama_chat_parser * parser) { delete parser; }

const char * gollama_chat_parse(gollama_chat_parser * parser, const char * text, int32_t length, bool partial, gollama_error * error) {
    return gollama::guarded(error, static_cast<const char *>(nullptr), [&] {
        parser->answer = to_json(parse(*parser, std::string(text, length), partial)).dump_safe();
        return parser->answer.c_str();
    });
}

}  // extern "C"
