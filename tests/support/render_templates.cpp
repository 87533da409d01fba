// Renders conversations by templates with llama.cpp's own functions.
//
// Reads {"templates": [file, ...], "conversations": {name: request, ...}} from the standard input; writes one line of JSON for each
// template and conversation into the file named as argument.
#include "chat_requests.hpp"

#include "log.h"

#include <fstream>
#include <iostream>
#include <iterator>

static common_json rendering_of(const common_chat_params & rendered) {
    common_json triggers = common_json::array();
    for (const auto & trigger : rendered.grammar_triggers) {
        triggers.push_back({ { "type", (int) trigger.type }, { "value", trigger.value } });
    }
    common_json result          = common_json::object();
    result["prompt"]            = rendered.prompt;
    result["generation_prompt"] = rendered.generation_prompt;
    result["name"]              = common_chat_format_name(rendered.format);
    result["grammar"]           = rendered.grammar;
    result["grammar_lazy"]      = rendered.grammar_lazy;
    result["grammar_triggers"]  = triggers;
    result["preserved_tokens"]  = rendered.preserved_tokens;
    result["stops"]             = rendered.additional_stops;
    result["thinking_start"]    = rendered.thinking_start_tag;
    result["thinking_ends"]     = rendered.thinking_end_tags;
    result["supports_thinking"] = rendered.supports_thinking;
    return result;
}

static common_json render(const common_chat_templates * templates, const common_json & request) {
    common_json result = common_json::object();
    try {
        result["rendering"] = rendering_of(common_chat_templates_apply(templates, inputs_of(templates, request)));
    } catch (const std::exception & error) {
        result["error"] = error.what();
    }
    return result;
}

static std::string all_of(std::istream && stream) { return { std::istreambuf_iterator<char>(stream), {} }; }

int main(int, char ** arguments) {
    common_log_set_verbosity_thold(-1);
    const auto    given = common_json::parse(all_of(std::move(std::cin)));
    std::ofstream output(arguments[1], std::ios_base::binary);
    for (const auto & path : given.at("templates")) {
        const auto source    = all_of(std::ifstream(path.get<std::string>(), std::ios_base::binary));
        const auto templates = common_chat_templates_init(/* model= */ nullptr, source);
        for (const auto & [name, request] : given.at("conversations").items()) {
            auto line            = render(templates.get(), request);
            line["template"]     = path;
            line["conversation"] = name;
            output << line.dump() << '\n';
        }
    }
    return output.flush().good() ? 0 : 1;
}
