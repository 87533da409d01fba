#include "template_meter.hpp"

#include "stack.hpp"
#include "template_check.hpp"

#include <algorithm>
#include <ctime>

namespace gollama {

// The templates of llama.cpp's models/templates need a tenth or less, but for one that takes the square of the messages.
// Nanoseconds are estimates, so that a limit is met at the same place anywhere; the clock is for what they miss.
static const double TIME   = 1.5e9, TIME_PER_BYTE = 1000, TIME_PER_MESSAGES = 60e3;
static const double MEMORY = 512e6, MEMORY_PER_BYTE = 50;
// llama.cpp compares outputs for tiny inputs in ways that take the square of their length
static const double OUTPUT     = 20e3, OUTPUT_PER_BYTE = 8;
static const int    DEEPEST    = 200;  // values in each other: freed, printed and compared by recursion
static const double CLOCK      = 3;    // how much slower than estimated a machine may be
static const double LOOK_EVERY = 1e5;

static thread_local template_meter * armed = nullptr;

static double thread_seconds() {
#if defined(CLOCK_THREAD_CPUTIME_ID)
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
#else
    return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
#endif
}

template_meter::template_meter(size_t input, const std::string * source) :
    input(static_cast<double>(input)), started(thread_seconds()), time_limit(TIME + TIME_PER_BYTE * input),
    memory_limit(MEMORY + MEMORY_PER_BYTE * input), stack_limit(lowest_stack_address()), source(source), fallback(source),
    outer(armed) {
    armed = this;
}

template_meter::~template_meter() {
    release();
    armed = outer;
}

template_meter * template_meter::current() { return armed; }

void template_meter::rethrow_if_exceeded() const {
    if (!exceeded.empty()) {
        throw failure(GOLLAMA_INVALID_ARGUMENT, exceeded);
    }
}

void template_meter::exceed(const char * what) {
    if (exceeded.empty()) {
        exceeded = std::string("the template ") + what;
        if (node && source) {
            exceeded += ", at " + line_and_column(*source, node->pos);
        }
    }
    throw std::runtime_error(exceeded);
}

void template_meter::start_run(jinja::context & context) {
    release();  // the values of the run before: nothing refers to them any more
    const double messages = item_count(context.get_val("messages"));
    time_limit            = std::max(time_limit, TIME + TIME_PER_BYTE * input + TIME_PER_MESSAGES * messages * messages);
    written               = 0;
    output_limit          = OUTPUT + std::min<double>(source ? source->size() : 0, OUTPUT);
    for (const char * name : { "messages", "tools" }) {
        output_limit += OUTPUT_PER_BYTE * measure(context.get_val(name)).bytes;
    }
}

void template_meter::enter(const jinja::statement & entered, const jinja::context & context, double nanoseconds) {
    if (!exceeded.empty()) {
        throw std::runtime_error(exceeded);
    }
    node   = &entered;
    source = context.src->empty() ? fallback : context.src.get();
    char here;
    if (&here < stack_limit) {
        exceed("recurses too deeply");
    }
    spend(nanoseconds);
}

void template_meter::spend(double nanoseconds) {
    spent += nanoseconds;
    if (!(spent <= time_limit)) {
        exceed("computes for too long");
    }
    if (spent >= next_look) {
        look_at_the_clock();
    }
}

void template_meter::look_at_the_clock() {
    next_look = spent + LOOK_EVERY;
    if (1e9 * (thread_seconds() - started) > CLOCK * time_limit) {
        exceed("computes for too long");
    }
}

void template_meter::use(double bytes) {
    *used += bytes;
    if (!(*used <= memory_limit)) {
        exceed("takes too much memory");
    }
    spend(bytes / 20);
}

void template_meter::allocate(double bytes) {
    scratched += bytes;
    use(bytes);
}

jinja::value template_meter::hold(const jinja::value & value, double bytes) {
    use(bytes);
    return jinja::value(value.get(), [value, bytes, used = used](void *) { *used -= bytes; });
}

void template_meter::keep(const jinja::value & value) {
    if (kept.insert(value).second) {
        const double bytes = 256 + 300.0 * value->val_arr.size() + 700.0 * value->val_obj.size();
        kept_bytes += bytes;
        use(bytes);
    }
}

void template_meter::write(double bytes) {
    written += bytes;
    if (!(written <= output_limit)) {
        exceed("makes far more text than it is given");
    }
}

extent template_meter::measure(const jinja::value & value) {
    extent total;
    walk(value, 1, total);
    return total;
}

// The one value that a function is bound to, or that a keyword argument carries.
static jinja::value & held(jinja::value_t & value) {
    static jinja::value none;
    if (value.val_func) {
        return static_cast<jinja::value_func_t &>(value).arg0;
    }
    return typeid(value) == typeid(jinja::value_kwarg_t) ? static_cast<jinja::value_kwarg_t &>(value).val : none;
}

void template_meter::walk(const jinja::value & value, int depth, extent & total) {
    if (depth > DEEPEST) {
        exceed("has values nested too deeply, or one that holds itself");
    }
    spend(10);
    total.values++;
    total.depth = std::max(total.depth, depth);
    total.bytes += text_size(value->val_str);
    for (const auto & item : value->val_arr) {
        walk(item, depth + 1, total);
    }
    for (const auto & [key, item] : value->val_obj) {
        walk(key, depth + 1, total);
        walk(item, depth + 1, total);
    }
    if (const jinja::value & inner = held(*value)) {
        walk(inner, depth + 1, total);
    }
}

// Every container is still held here while its own holdings go, so that none takes another along.
void template_meter::release() {
    for (const auto & value : kept) {
        held(*value) = nullptr;
        value->val_arr.clear();
        value->val_obj.clear();
        value->val_func = nullptr;
        if (auto * object = dynamic_cast<jinja::value_object_t *>(value.get())) {
            object->unordered.clear();
        }
    }
    kept.clear();
    *used -= kept_bytes + scratched;
    kept_bytes = scratched = 0;
}

double text_size(const jinja::string & text) {
    double size = 64.0 * text.parts.size();
    for (const auto & part : text.parts) {
        size += part.val.size();
    }
    return size;
}

bool is_container(const jinja::value & value) {
    return !value->is_numeric() && !value->is_none() && !value->is_undefined() && !jinja::is_val<jinja::value_string>(value);
}

size_t item_count(const jinja::value & value) { return value->val_arr.size() + value->val_obj.size(); }

}  // namespace gollama
