// JSON schemas to grammars through llama.cpp's own converter.
#include "guard.hpp"

#include "json-schema-to-grammar.h"  // common

#include <cstring>

extern "C" {

char * gollama_schema_grammar(const char * schema, gollama_error * error) {
    return gollama::guarded(error, static_cast<char *>(nullptr), [&] {
        auto parsed = common_json::parse(std::string(schema));
        // under a name of its own: the rules of properties at the root would replace the converter's own of the same name
        const std::string grammar = build_grammar([&](const common_grammar_builder & builder) {
            builder.resolve_refs(parsed);
            builder.add_rule("root", builder.add_schema("schema", parsed));
        });
        char * copy = new char[grammar.size() + 1];
        std::memcpy(copy, grammar.c_str(), grammar.size() + 1);
        return copy;
    });
}

void gollama_text_free(char * text) { delete[] text; }

}  // extern "C"
