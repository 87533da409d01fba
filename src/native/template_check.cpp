#include "template_check.hpp"

#include "guard.hpp"
#include "stack.hpp"

#include "jinja/parser.h"

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <vector>

using jinja::token;

namespace gollama {

// The templates of llama.cpp's models/templates reach 17,000, 600, 10 and 5.
static const size_t LONGEST = 1 << 20;

// What llama.cpp parses by recursion: how many at most, and how much stack each may take. A thread with a small stack
// takes less.
struct recursion {
    const char * what;
    size_t       most;
    size_t       stack;
};
static const recursion WORDS    = { "a part with more words and signs", 4000, 350 };  // in one {{ }} or {% %}
static const recursion ELIFS    = { "more elif", 1000, 1500 };                         // each is an if inside the one before
static const recursion BRACKETS = { "brackets nested deeper", 100, 5000 };
static const recursion BLOCKS   = { "blocks nested deeper", 100, 2500 };

std::string line_and_column(const std::string & source, size_t position) {
    position           = std::min(position, source.size());
    const auto   start = source.begin(), here = source.begin() + position;
    const size_t line  = std::count(start, here, '\n');
    const size_t begin = line ? source.rfind('\n', position - 1) + 1 : 0;
    return "line " + std::to_string(line + 1) + ", column " + std::to_string(position - begin + 1);
}

namespace {

void limit(size_t value, const recursion & kind) {
    char         here;
    const size_t most = std::min<size_t>(kind.most, std::max<ptrdiff_t>(&here - lowest_stack_address(), 0) / kind.stack);
    if (value > most) {
        throw failure(GOLLAMA_INVALID_ARGUMENT, std::string("the template has ") + kind.what + " than " + std::to_string(most));
    }
}

bool any_of(const token & word, std::initializer_list<token::type> types) {
    return std::find(types.begin(), types.end(), word.t) != types.end();
}

// The blocks that are open at the end, by their opening words. `{% set a = 1 %}` opens none.
class blocks {
  public:
    void statement(const std::vector<token> & words, size_t begin, size_t end) {
        if (begin >= words.size() || words[begin].t != token::identifier) {
            return;
        }
        const std::string & name   = words[begin].value;
        const auto          equals = [](const token & word) { return word.t == token::equals; };
        const bool assigns = name == "set" && std::any_of(words.begin() + begin, words.begin() + end, equals);
        for (const char * kind : { "if", "for", "macro", "call", "filter", "set" }) {
            if (name == kind && !assigns) {
                open.push_back(&words[begin]);
            } else if (name == std::string("end") + kind && !open.empty()) {
                open.pop_back();
            }
        }
        elifs += name == "elif";
        limit(elifs, ELIFS);
        limit(open.size(), BLOCKS);
    }

    std::vector<const token *> open;

  private:
    size_t elifs = 0;
};

// The limits, on what llama.cpp's own lexer reads.
blocks check_nesting(const std::vector<token> & words) {
    blocks found;
    size_t opening = 0;  // of the {{ or {% that we are in
    int    depth   = 0;
    for (size_t index = 0; index < words.size(); index++) {
        const token & word = words[index];
        if (any_of(word, { token::open_expression, token::open_statement })) {
            opening = index;
            depth   = 0;
        } else if (word.t == token::close_statement) {
            found.statement(words, opening + 1, index);
        } else if (any_of(word, { token::text, token::comment })) {
            opening = index;
        }
        depth += any_of(word, { token::open_paren, token::open_square_bracket, token::open_curly_bracket });
        depth -= any_of(word, { token::close_paren, token::close_square_bracket, token::close_curly_bracket });
        depth = std::max(depth, 0);
        limit(depth, BRACKETS);
        limit(index - opening, WORDS);
    }
    return found;
}

[[noreturn]] void tell(const std::string & what, const std::string & source, size_t position) {
    throw failure(GOLLAMA_INVALID_ARGUMENT, "at " + line_and_column(source, position) + ": " + what);
}

template <typename Body>
std::string what_is_thrown(Body && body) {
    try {
        body();
        return "";
    } catch (const std::out_of_range &) {
        return "a number that is too large";  // all that it says is "stoll"
    } catch (const std::exception & error) {
        return error.what();
    }
}

std::string lexing_fails(const std::string & source) {
    return what_is_thrown([&] { jinja::lexer().tokenize(source); });
}

// Only the excerpt in the lexer's message tells where it stopped. A text or comment without an end is told by its start:
// it is the longest beginning without it that can be read, to the line.
[[noreturn]] void tell_lexing(const std::string & what, const std::string & source) {
    size_t place = 0;
    while (place < source.size() && what.find("\n" + jinja::peak_source(source, place)) == std::string::npos) {
        place++;
    }
    const bool at_the_end = what.find("end of ") != std::string::npos;
    for (size_t line = place; at_the_end && source.size() < 64 << 10 && line > 0;) {
        line = source.rfind('\n', line - 1);
        line = line == std::string::npos ? 0 : line;
        if (line == 0 || lexing_fails(source.substr(0, line)).empty()) {
            place = line ? line + 1 : 0;
            break;
        }
    }
    tell(what, source, place);
}

// The parser names no place for some errors. It fails in the same way on every beginning of the words that holds the
// culprit, so that the shortest such beginning ends there.
[[noreturn]] void tell_parsing(const std::string & what, const jinja::lexer_result & lexed, const blocks & found) {
    const auto & words = lexed.tokens;
    size_t       low = 0, high = words.size();
    while (low + 1 < high) {
        const size_t middle = (low + high) / 2;
        const jinja::lexer_result part{ { words.begin(), words.begin() + middle }, lexed.source };
        (what_is_thrown([&] { jinja::parse_from_tokens(part); }) == what ? high : low) = middle;
    }
    const bool at_the_end = what.find("(Got )") != std::string::npos || what.find("EOF") != std::string::npos ||
                            what.find("Unexpected token type") != std::string::npos;
    if (at_the_end && !found.open.empty()) {
        const token & opening = *found.open.back();
        tell("this " + opening.value + " is never ended", lexed.source, opening.pos);
    }
    tell(what, lexed.source, at_the_end ? lexed.source.size() : words[high - 1].pos);
}

}  // namespace

jinja::program parse_template(const std::string & source) {
    if (source.size() > LONGEST) {
        throw failure(GOLLAMA_INVALID_ARGUMENT, "the template has more than " + std::to_string(LONGEST) + " bytes");
    }
    jinja::lexer_result lexed;
    if (const auto what = what_is_thrown([&] { lexed = jinja::lexer().tokenize(source); }); !what.empty()) {
        tell_lexing(what, source);
    }
    const blocks   found = check_nesting(lexed.tokens);
    jinja::program program;
    if (const auto what = what_is_thrown([&] { program = jinja::parse_from_tokens(lexed); }); !what.empty()) {
        tell_parsing(what, lexed, found);
    }
    return program;
}

}  // namespace gollama
