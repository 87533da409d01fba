// Chat templates through llama.cpp's own Jinja engine: JSON in, JSON out.
#include "guard.hpp"
#include "template_check.hpp"

#include "chat.h"  // common

#include <memory>

struct gollama_chat_templates {
    common_chat_templates_ptr templates;
    std::string               answer;
};

extern "C" {

gollama_chat_templates * gollama_chat_templates_new(const llama_model * model, const char * source, gollama_error * error) {
    return gollama::guarded(error, static_cast<gollama_chat_templates *>(nullptr), [&] {
        for (const char * text : { source, llama_model_chat_template(model, nullptr), llama_model_chat_template(model, "tool_use") }) {
            if (text) {
                gollama::check_template(text);
            }
        }
        auto result       = std::make_unique<gollama_chat_templates>();
        result->templates = common_chat_templates_init(model, source ? source : "");
        return result.release();
    });
}

void gollama_chat_templates_free(gollama_chat_templates * templates) { delete templates; }

const char * gollama_chat_render(gollama_chat_templates * templates, const char * request, gollama_error * error) {
    return gollama::guarded(error, static_cast<const char *>(nullptr), [&] {
        const auto                   input = common_json::parse(std::string(request));
        common_chat_templates_inputs inputs;
        inputs.messages              = common_chat_msgs_parse_oaicompat(input.at("messages"));
        inputs.add_generation_prompt = input.at("add_generation_prompt").get<bool>();
        const auto  rendered         = common_chat_templates_apply(templates->templates.get(), inputs);
        const common_json output     = { { "prompt", rendered.prompt }, { "stops", rendered.additional_stops } };
        templates->answer            = output.dump();
        return templates->answer.c_str();
    });
}

}  // extern "C"
