#pragma once

#include "guard.hpp"

#include "jinja/runtime.h"  // common

#include <memory>
#include <string>
#include <unordered_set>
#include <utility>

namespace gollama {

// How large a value is when all it holds is written out; what occurs twice counts twice.
struct extent {
    double values = 0;
    double bytes  = 0;  // of the strings
    int    depth  = 0;

    // No text that llama.cpp makes of the value is longer: JSON needs six characters for some, a number up to 330.
    double text() const { return 6 * bytes + 400 * values; }
};

// What a chat template may use up, on the thread that made the meter, until it is gone. A template comes out of a model
// file and may be hostile, so whatever runs one does so under a meter; template_nodes and template_builtins charge it.
// Once it is exceeded it stays so: every further step fails, whoever caught the first exception.
class template_meter {
  public:
    // `input`: bytes of the request, which the limits grow with. `source`: for errors where the engine knows none.
    explicit template_meter(size_t input, const std::string * source = nullptr);
    ~template_meter();
    template_meter(const template_meter &) = delete;

    static template_meter * current();

    // Throws failure(GOLLAMA_INVALID_ARGUMENT) that says what was exceeded, and in which line.
    void rethrow_if_exceeded() const;

    // A run of a whole program begins. Its limits grow with what it is given, too.
    void start_run(jinja::context & context);
    void enter(const jinja::statement & node, const jinja::context & context, double nanoseconds);
    void spend(double nanoseconds);
    // Memory that is in use until the innermost scratch ends.
    void allocate(double bytes);
    // Memory that is in use until the last reference to what is returned, the same value, is gone.
    jinja::value hold(const jinja::value & value, double bytes);
    // Memory that is in use until the end of the run, with a container that is held on to until then: the containers of a
    // run are freed one by one, so that no chain of them is freed by recursion.
    void keep(const jinja::value & value);
    // Text of the prompt.
    void write(double bytes);
    // Walks all that the value holds, and throws where that is too much or too deep.
    extent measure(const jinja::value & value);

    class scratch {
      public:
        explicit scratch(template_meter & meter) : meter(meter), before(meter.scratched) {}
        ~scratch() {
            *meter.used -= meter.scratched - before;
            meter.scratched = before;
        }
        scratch(const scratch &) = delete;

      private:
        template_meter & meter;
        double           before;
    };

  private:
    void              walk(const jinja::value & value, int depth, extent & total);
    void              use(double bytes);
    void              look_at_the_clock();
    void              release();
    [[noreturn]] void exceed(const char * what);

    double input, started, time_limit, memory_limit, output_limit = 0;
    double spent = 0, scratched = 0, kept_bytes = 0, written = 0, next_look = 0;
    char * stack_limit;

    const jinja::statement * node = nullptr;  // the last one entered
    const std::string *      source;
    const std::string *      fallback;
    template_meter *         outer;
    std::string              exceeded;

    std::shared_ptr<double>          used = std::make_shared<double>(0);  // bytes of memory
    std::unordered_set<jinja::value> kept;
};

double text_size(const jinja::string & text);
size_t item_count(const jinja::value & value);
bool   is_container(const jinja::value & value);

// Runs `body` under a meter; where that is exceeded, its failure is what is thrown.
template <typename Body>
auto metered(size_t input, Body && body) {
    template_meter meter(input);
    try {
        auto result = body();
        meter.rethrow_if_exceeded();
        return result;
    } catch (...) {
        meter.rethrow_if_exceeded();
        throw;
    }
}

}  // namespace gollama
