#include "template_check.hpp"

#include "guard.hpp"

#include <cctype>
#include <cstring>
#include <initializer_list>

namespace gollama {

// The templates of llama.cpp's models/templates reach 600 and 10.
static const int MOST_WORDS      = 4000;  // names and signs in one {{ }} or {% %}
static const int MOST_ELIFS      = 1000;
static const int DEEPEST_NESTING = 100;   // of brackets in one, and of blocks in each other

namespace {

class scanner {
  public:
    explicit scanner(const char * source) : at(source) {}

    void run() {
        while (*at) {
            if (at[0] == '{' && at[1] == '#') {
                const char * end = std::strstr(at, "#}");
                at               = end ? end + 2 : at + std::strlen(at);
            } else if (at[0] == '{' && (at[1] == '{' || at[1] == '%')) {
                tag(at[1] == '{' ? '}' : '%');
            } else {
                at++;
            }
        }
    }

  private:
    // A whole {{ }} or {% %}; `closing` is the sign in front of its last brace.
    void tag(char closing) {
        at += 2;
        int         words  = 0;
        int         depth  = 0;
        bool        equals = false;
        std::string first;
        while (*at && !(depth <= 0 && at[0] == closing && at[1] == '}')) {
            if (*at == '"' || *at == '\'') {
                literal();
            } else if (std::isalnum(static_cast<unsigned char>(*at)) || *at == '_') {
                const char * start = at;
                while (std::isalnum(static_cast<unsigned char>(*at)) || *at == '_') {
                    at++;
                }
                if (words == 0 && closing == '%') {
                    first.assign(start, at);
                }
            } else {
                equals |= *at == '=';
                const bool space = std::isspace(static_cast<unsigned char>(*at)) != 0;
                depth += std::strchr("([{", *at) != nullptr;
                depth -= std::strchr(")]}", *at) != nullptr;
                // the minus of {%- is not a word of the statement
                words -= space || (words == 0 && (*at == '-' || *at == '+'));
                at++;
            }
            limit(++words, MOST_WORDS, "a part with more words and signs than ");
            limit(depth, DEEPEST_NESTING, "brackets nested deeper than ");
        }
        at += *at ? 2 : 0;
        block(first == "set" && equals ? "" : first);
    }

    void literal() {
        const char quote = *at++;
        while (*at && *at != quote) {
            at += *at == '\\' && at[1] ? 2 : 1;
        }
        at += *at != 0;
    }

    void block(const std::string & name) {
        for (const char * kind : { "if", "for", "macro", "call", "filter", "generation", "set" }) {
            blocks += name == kind;
            blocks -= name == std::string("end") + kind;
        }
        elifs += name == "elif";
        limit(elifs, MOST_ELIFS, "more elif than ");
        limit(blocks, DEEPEST_NESTING, "blocks nested deeper than ");
    }

    static void limit(int value, int most, const char * what) {
        if (value > most) {
            throw failure(GOLLAMA_INVALID_ARGUMENT, std::string("the template has ") + what + std::to_string(most));
        }
    }

    const char * at;
    int          blocks = 0;
    int          elifs  = 0;  // each is an if inside the one before
};

}  // namespace

void check_template(const char * source) { scanner(source).run(); }

}  // namespace gollama
