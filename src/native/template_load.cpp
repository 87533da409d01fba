#include "template_load.hpp"

#include "common_chat_templates.h"  // made by tools/compile.py from llama.cpp's chat.cpp
#include "guard.hpp"
#include "log.h"  // common
#include "template_builtins.hpp"
#include "template_check.hpp"
#include "template_meter.hpp"
#include "template_nodes.hpp"

#include <string>

namespace gollama {

// llama.cpp runs a template as soon as it is given one, to see what it can do. With this in front it gets nowhere; the
// template behind it is run again when its nodes are charged for.
static const std::string BARRIER = "{{ raise_exception('') }}";

// As the lexer makes them. It keeps the positions of what it is given, so that they are right only in this text.
static std::string with_unix_lines(const char * text) {
    std::string result;
    for (; *text; text++) {
        if (*text != '\r') {
            result += *text;
        } else if (text[1] != '\n') {
            result += '\n';
        }
    }
    return result;
}

// What the constructor of common_chat_template does, for the text behind the barrier.
static void open_barrier(common_chat_template & part) {
    const std::string source = part.src.substr(BARRIER.size()) + "\n";  // the lexer takes one off the end
    template_meter    meter(source.size(), &source);
    part.prog = parse_template(source);
    instrument(part.prog);
    part.src  = source.substr(0, source.size() - 1);
    part.caps = jinja::caps_get(part.prog);
    meter.rethrow_if_exceeded();
}

common_chat_templates_ptr load_templates(const llama_model * model, const char * source) {
    guard_builtins();
    const bool given   = source && *source;
    const auto text_of = [&](const char * variant) {
        const char * text = given ? nullptr : llama_model_chat_template(model, variant);
        return text ? with_unix_lines(text) : std::string();
    };
    const auto init = [&](const std::string & text) {
        parse_template(text);
        auto templates = common_chat_templates_init(model, BARRIER + text);
        open_barrier(*templates->template_default);
        return templates;
    };
    const std::string tool_use = text_of("tool_use");
    std::string       standard = given ? with_unix_lines(source) : text_of(nullptr);
    if (standard.empty() || standard == "chatml") {
        standard = tool_use;
    }
    if (standard.empty()) {
        return common_chat_templates_init(model, given ? source : "");  // llama.cpp's own ChatML
    }
    auto templates = init(standard);
    try {
        templates->template_tool_use = tool_use.empty() ? nullptr : std::move(init(tool_use)->template_default);
    } catch (const failure & error) {
        LOG_WRN("the chat template for tools is not used: %s\n", error.what());  // as llama.cpp does
    }
    return templates;
}

}  // namespace gollama
