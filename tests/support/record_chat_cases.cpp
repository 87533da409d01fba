// Prints the cases of llama.cpp's tests/test-chat.cpp instead of testing them: one line of JSON each, into the file named as argument.
//
// The two parts included here are cut from that file when this is compiled (upstream_chat.py): what the cases are made of, and the cases,
// whose run() calls record_case.
#include "test_chat_definitions.inc"

#include "chat_requests.hpp"

static std::ofstream output;

// Noon of 15 January 2024, UTC: the same day nearly everywhere.
static const time_t NOW = 1705320000;

static void record_case(const std::string & path, const common_chat_templates * templates, peg_test_case test) {
    if (test.params.messages.empty()) {
        test.params.messages = { message_user };
    }
    test.params.now = std::chrono::system_clock::from_time_t(NOW);
    // these two are otherwise the day of the call
    test.params.chat_template_kwargs["datetime"]    = "\"Jan 15 2024\"";
    test.params.chat_template_kwargs["date_string"] = "\"15 Jan 2024\"";

    const auto       rendered = common_chat_templates_apply(templates, test.params);
    common_peg_arena parser;
    parser.load(rendered.parser);
    const auto parsed = common_chat_peg_parse(parser, test.input, test.is_partial, common_chat_parser_params(rendered));

    common_json line          = common_json::object();
    line["template"]          = path;
    line["request"]           = request_of(test.params);
    line["input"]             = test.input;
    line["partial"]           = test.is_partial;
    line["expected"]          = message_of(test.expect);
    line["parsed"]            = message_of(parsed);
    line["prompt"]            = rendered.prompt;
    line["generation_prompt"] = rendered.generation_prompt;
    output << line.dump() << '\n';
}

#include "test_chat_cases.inc"

int main(int, char ** arguments) {
    common_log_set_verbosity_thold(-1);
    output.open(arguments[1], std::ios_base::binary);
    test_template_output_peg_parsers(/* detailed_debug = */ false);
    return output.flush().good() ? 0 : 1;
}
