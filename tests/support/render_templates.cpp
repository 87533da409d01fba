// What llama.cpp alone makes of chat templates: a model's file, and requests on stdin, one a line: {"template": path,
// "messages": [...]}. Prints {"prompt": ...} or {"error": ...} for each.
#include "chat.h"
#include "llama.h"

#include <fstream>
#include <iostream>
#include <sstream>

int main(int, char ** arguments) {
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    auto parameters       = llama_model_default_params();
    parameters.vocab_only = true;
    llama_model * model   = llama_model_load_from_file(arguments[1], parameters);
    for (std::string line; std::getline(std::cin, line);) {
        const auto        request = common_json::parse(line);
        std::ifstream     file(request.at("template").get<std::string>());
        std::stringstream source;
        source << file.rdbuf();
        common_json answer = common_json::object();
        try {
            auto                         templates = common_chat_templates_init(model, source.str());
            common_chat_templates_inputs inputs;
            inputs.messages              = common_chat_msgs_parse_oaicompat(request.at("messages"));
            inputs.add_generation_prompt = true;
            answer["prompt"]             = common_chat_templates_apply(templates.get(), inputs).prompt;
        } catch (const std::exception & error) {
            answer["error"] = std::string(error.what());
        }
        std::cout << answer.dump() << std::endl;
    }
    llama_model_free(model);
}
