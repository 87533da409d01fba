// Chat templates through llama.cpp's own Jinja engine: JSON in, JSON out.
#include "guard.hpp"
#include "template_load.hpp"
#include "template_meter.hpp"

#include "chat.h"  // common

#include <cstring>
#include <memory>

struct gollama_chat_templates {
    common_chat_templates_ptr templates;
    std::string               answer;
};

extern "C" {

gollama_chat_templates * gollama_chat_templates_new(const llama_model * model, const char * source, gollama_error * error) {
    return gollama::guarded(error, static_cast<gollama_chat_templates *>(nullptr), [&] {
        auto result       = std::make_unique<gollama_chat_templates>();
        result->templates = gollama::load_templates(model, source);
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
        const auto rendered          = gollama::metered(std::strlen(request), [&] {
            return common_chat_templates_apply(templates->templates.get(), inputs);
        });
        const common_json output     = { { "prompt", rendered.prompt }, { "stops", rendered.additional_stops } };
        templates->answer            = output.dump();
        return templates->answer.c_str();
    });
}

}  // extern "C"
