// Chat requests, the messages and options of gollama.h in one object, from and to the inputs of llama.cpp's own functions.
#pragma once

#include "chat.h"

#include <chrono>

static common_json name_of(common_chat_tool_choice choice) {
    return choice == COMMON_CHAT_TOOL_CHOICE_AUTO ? "auto" : choice == COMMON_CHAT_TOOL_CHOICE_REQUIRED ? "required" : "none";
}

static common_json name_of(common_chat_continuation continuation) {
    switch (continuation) {
        case COMMON_CHAT_CONTINUATION_NONE:      return false;
        case COMMON_CHAT_CONTINUATION_AUTO:      return true;
        case COMMON_CHAT_CONTINUATION_REASONING: return "reasoning_content";
        case COMMON_CHAT_CONTINUATION_CONTENT:   return "content";
    }
    throw std::invalid_argument("an unknown continuation");
}

static common_json request_of(const common_chat_templates_inputs & inputs) {
    common_json request = common_json::object();
    request["messages"] = common_json::array();
    for (const auto & message : inputs.messages) {
        request["messages"].push_back(message.to_json_oaicompat());
    }
    if (!inputs.tools.empty()) {
        request["tools"] = common_chat_tools_to_json_oaicompat(inputs.tools);
    }
    if (!inputs.json_schema.empty()) {
        request["json_schema"] = common_json::parse(inputs.json_schema);
    }
    if (!inputs.grammar.empty()) {
        request["grammar"] = inputs.grammar;
    }
    request["tool_choice"]            = name_of(inputs.tool_choice);
    request["parallel_tool_calls"]    = inputs.parallel_tool_calls;
    request["add_generation_prompt"]  = inputs.add_generation_prompt;
    request["continue_final_message"] = name_of(inputs.continue_final_message);
    request["enable_thinking"]        = inputs.enable_thinking;
    request["reasoning_format"]       = common_reasoning_format_name(inputs.reasoning_format);
    request["template_kwargs"]        = common_json::object();
    for (const auto & [name, value] : inputs.chat_template_kwargs) {
        request["template_kwargs"][name] = common_json::parse(value);
    }
    request["now"] = (int64_t) std::chrono::system_clock::to_time_t(inputs.now);
    return request;
}

// What a request leaves out is as llama.cpp's server has it: parallel calls where the template knows them.
static common_chat_templates_inputs inputs_of(const common_chat_templates * templates, const common_json & request) {
    common_chat_templates_inputs inputs;
    inputs.messages = common_chat_msgs_parse_oaicompat(request.at("messages"));
    if (request.contains("tools")) {
        inputs.tools = common_chat_tools_parse_oaicompat(request.at("tools"));
    }
    if (request.contains("json_schema")) {
        inputs.json_schema = request.at("json_schema").dump();
    }
    inputs.grammar                = request.value("grammar", "");
    inputs.tool_choice            = common_chat_tool_choice_parse_oaicompat(request.value("tool_choice", "auto"));
    const bool parallel           = common_chat_templates_get_caps(templates)["supports_parallel_tool_calls"];
    inputs.parallel_tool_calls    = request.value("parallel_tool_calls", parallel);
    inputs.add_generation_prompt  = request.value("add_generation_prompt", inputs.add_generation_prompt);
    inputs.continue_final_message = common_chat_continuation_parse(request.value("continue_final_message", common_json(false)));
    inputs.enable_thinking        = request.value("enable_thinking", inputs.enable_thinking);
    inputs.reasoning_format       = common_reasoning_format_from_name(request.at("reasoning_format"));
    if (request.contains("template_kwargs")) {
        for (const auto & [name, value] : request.at("template_kwargs").items()) {
            inputs.chat_template_kwargs[name] = value.dump();
        }
    }
    if (request.contains("now")) {
        inputs.now = std::chrono::system_clock::from_time_t((time_t) request.at("now").get<long>());
    }
    return inputs;
}

static common_json message_of(const common_chat_msg & message) {
    common_json calls = common_json::array();
    for (const auto & call : message.tool_calls) {
        calls.push_back({ { "name", call.name }, { "arguments", call.arguments }, { "id", call.id } });
    }
    common_json parts = common_json::array();
    for (const auto & part : message.content_parts) {
        parts.push_back({ { "type", part.type }, { "text", part.text } });
    }
    common_json result          = common_json::object();
    result["content"]           = message.content;
    result["reasoning_content"] = message.reasoning_content;
    result["tool_calls"]        = calls;
    result["content_parts"]     = parts;
    return result;
}
