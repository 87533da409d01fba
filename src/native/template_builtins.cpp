// llama.cpp's Jinja functions do all their work in one go, and some of it is far more than their arguments are long, never
// ends or traps. So what a call will cost is reckoned before it is made.
#include "template_builtins.hpp"

#include "template_meter.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>

using jinja::func_args;
using jinja::is_val;
using jinja::value;

namespace gollama {

namespace {

using check = void (*)(template_meter & meter, const func_args & args);

bool is_text(const value & one) { return is_val<jinja::value_string>(one); }

std::string text_at(const func_args & args, size_t index, const char * otherwise = "") {
    return args.count() > index && is_text(args.get_args()[index]) ? args.get_args()[index]->val_str.str() : otherwise;
}

std::optional<double> number_of(const value & one) {
    return is_val<jinja::value_int>(one) ? std::optional<double>(static_cast<double>(one->val_int)) : std::nullopt;
}

std::optional<double> number_at(const func_args & args, size_t index) {
    return args.count() > index ? number_of(args.get_args()[index]) : std::nullopt;
}

// What std::string::find costs: it compares wherever the first letters fit.
void search(template_meter & meter, const std::string & text, const std::string & sought) {
    meter.spend(2.0 * text.size());
    const std::string start = sought.substr(0, 16);
    for (size_t at = 0; sought.size() > 16 && (at = text.find(start, at)) != std::string::npos; at++) {
        meter.spend(20 + sought.size() / 8.0);
    }
}

double occurrences(const std::string & text, const std::string & sought) {
    double count = 0;
    for (size_t at = 0; !sought.empty() && (at = text.find(sought, at)) != std::string::npos; at += sought.size()) {
        count++;
    }
    return count;
}

void check_range(template_meter & meter, const func_args & args) {
    const bool   one   = args.count() == 1;
    const double start = one ? 0 : number_at(args, 0).value_or(0);
    const double stop  = number_at(args, one ? 0 : 1).value_or(0);
    const double step  = number_at(args, 2).value_or(1);
    if (std::max({ std::fabs(start), std::fabs(stop), std::fabs(step) }) > 1e15) {
        throw std::runtime_error("range() takes no numbers that large");  // adding up overflows
    }
    const double items = step == 0 ? 0 : std::max(0.0, std::ceil((stop - start) / step));
    meter.allocate(300 * items);
    meter.spend(200 * items);
}

void check_split(template_meter & meter, const func_args & args, bool moves) {
    const std::string text = text_at(args, 0), delimiter = text_at(args, 1, " ");
    search(meter, text, delimiter);
    double parts = occurrences(text, delimiter);
    if (const auto most = number_at(args, 2); most && *most >= 0) {
        parts = std::min(parts, *most);
    }
    meter.allocate(2.0 * text.size() + 400 * parts);
    meter.spend(moves ? parts * text.size() / 50 : 0);  // the rest is moved to the front for each
}

void check_replace(template_meter & meter, const func_args & args) {
    const std::string text = text_at(args, 0), old = text_at(args, 1), by = text_at(args, 2);
    search(meter, text, old);
    const double times  = old.empty() ? text.size() + 1.0 : occurrences(text, old);
    const double length = text.size() + times * by.size();
    meter.allocate(2 * length);
    meter.spend(old.empty() || old.size() == by.size() ? length : times * length / 50);  // the rest is moved for each
}

void check_indent(template_meter & meter, const func_args & args) {
    const std::string text  = text_at(args, 0);
    const value       width = args.get_kwarg_or_pos("width", 1);
    if (number_of(width).value_or(0) < 0) {
        throw std::runtime_error("indent() takes no negative width");
    }
    const double by = is_text(width) ? text_size(width->val_str) : number_of(width).value_or(4);
    meter.allocate(2.0 * text.size() + by * (2.0 + std::count(text.begin(), text.end(), '\n')));
}

void charge_writing(template_meter & meter, const extent & size) {
    meter.allocate(size.text());
    meter.spend(size.text() * size.depth / 4);
}

// What copies a text, or writes a value out with all that it holds.
void check_writing(template_meter & meter, const func_args & args) {
    const value one = args.get_pos(0);
    if (is_text(one)) {
        meter.allocate(2 * text_size(one->val_str));
    } else {
        charge_writing(meter, meter.measure(one));
    }
}

void check_json(template_meter & meter, const func_args & args) {
    const extent size = meter.measure(args.get_pos(0));
    charge_writing(meter, size);
    const double indent = std::fabs(number_of(args.get_kwarg_or_pos("indent", 2)).value_or(0));
    if (indent > 1e6) {
        throw std::runtime_error("tojson() takes no indent that large");
    }
    meter.allocate(size.values * (2 * (size.depth + 1) * indent + meter.measure(args.get_kwarg_or_pos("separators", 3)).bytes));
}

void check_join(template_meter & meter, const func_args & args) {
    const extent all       = meter.measure(args.get_pos(0));
    const double delimiter = meter.measure(args.get_kwarg_or_pos("d", 1)).text();
    meter.allocate(all.bytes + 400 * all.values + delimiter * item_count(args.get_pos(0)));
}

void check_format(template_meter & meter, const func_args & args) {
    for (const value & one : args.get_args()) {
        meter.allocate(is_text(one) ? 2 * text_size(one->val_str) : meter.measure(one).text());
    }
}

// Sorting by an order that contradicts itself reads outside of the array.
class order {
  public:
    void add(const value & key) {
        const bool number = is_val<jinja::value_int>(key) || is_val<jinja::value_float>(key);
        const int  kind   = number ? 1 : is_text(key) ? 2 : 3;
        if ((number && std::isnan(key->as_float())) || (seen && kind != seen)) {
            throw std::runtime_error("values of different types cannot be sorted");
        }
        seen = kind;
    }

  private:
    int seen = 0;
};

void charge_sorting(template_meter & meter, const value & items) {
    double longest = 0;
    for (const value & item : items->val_arr) {
        longest = std::max(longest, meter.measure(item).bytes);
    }
    for (const auto & [key, item] : items->val_obj) {
        longest = std::max(longest, meter.measure(key).bytes + meter.measure(item).bytes);
    }
    const double count = item_count(items);
    meter.spend(count * (1 + std::log2(count + 1)) * (300 + longest));
    meter.allocate(700 * count);
}

void check_sort(template_meter & meter, const func_args & args) {
    const value items = args.get_pos(0), attribute = args.get_kwarg_or_pos("attribute", 3);
    charge_sorting(meter, items);
    order keys;
    for (value item : items->val_arr) {
        if (is_val<jinja::value_int>(attribute) && is_val<jinja::value_array>(item)) {
            item = item->at(attribute->val_int);
        } else if (is_text(attribute) && is_val<jinja::value_object>(item)) {
            item = item->at(attribute);
        }
        keys.add(item);
    }
}

void check_dictsort(template_meter & meter, const func_args & args) {
    const value items = args.get_pos(0), by = args.get_kwarg_or_pos("by", 2);
    charge_sorting(meter, items);
    order keys;
    for (const auto & [key, item] : items->val_obj) {
        keys.add(is_text(by) && by->val_str.str() == "value" ? item : key);
    }
}

void check_comparing(template_meter & meter, const func_args & args) { charge_sorting(meter, args.get_pos(0)); }

void check_items(template_meter & meter, const func_args & args) { meter.allocate(400.0 * item_count(args.get_pos(0))); }

void check_slice(template_meter &, const func_args & args) {
    if (std::fabs(number_at(args, 3).value_or(1)) > 1e9) {
        throw std::runtime_error("a slice takes no step that large");  // adding up overflows, and may never end
    }
}

// Each part that is nothing but blanks is taken from the front of a list of parts.
void check_strip(template_meter & meter, const func_args & args) {
    const value       chars = args.get_kwarg_or_pos("chars", 1);
    const std::string set   = is_text(chars) ? chars->val_str.str() : " \t\n\v\f\r";
    const auto &      parts = args.get_pos(0)->val_str.parts;
    for (const auto & part : parts) {
        meter.spend(part.val.size() * (1 + set.size() / 8.0));
        if (part.val.find_first_not_of(set) != std::string::npos) {
            break;
        }
        meter.spend(3.0 * parts.size());
    }
}

void check_divisible(template_meter &, const func_args & args) {
    const auto divisor = number_at(args, 1);
    if (divisor && (*divisor == 0 || (*divisor == -1 && args.get_pos(0)->val_int == INT64_MIN))) {
        throw std::runtime_error("divisibleby() cannot divide by that");  // the processor traps
    }
}

void check_in(template_meter & meter, const func_args & args) {
    const double sought = meter.measure(args.get_pos(0)).bytes;
    const value  among  = args.get_pos(1);
    if (is_text(among)) {
        search(meter, among->val_str.str(), text_at(args, 0));
    } else {
        meter.spend(meter.measure(among).bytes + sought * item_count(among) / 2);
    }
}

void check_append(template_meter & meter, const func_args & args) {
    meter.keep(args.get_pos(0));
    for (const value & one : args.get_args()) {
        if (is_container(one)) {
            meter.keep(one);
        }
    }
}

void nothing(template_meter &, const func_args &) {}
void constant(template_meter &, const func_args &) {}  // whatever it is given

const std::map<std::string, check> & checks() {
    static const std::map<std::string, check> all = {
        { "range", check_range }, { "replace", check_replace }, { "indent", check_indent }, { "join", check_join },
        { "split", [](template_meter & meter, const func_args & args) { check_split(meter, args, true); } },
        { "rsplit", [](template_meter & meter, const func_args & args) { check_split(meter, args, false); } },
        { "tojson", check_json }, { "format", check_format }, { "sort", check_sort }, { "dictsort", check_dictsort },
        { "min", check_comparing }, { "max", check_comparing }, { "items", check_items }, { "slice", check_slice },
        { "strip", check_strip }, { "lstrip", check_strip }, { "append", check_append }, { "test_is_in", check_in },
        { "test_is_divisibleby", check_divisible },
        // they look at no more than the items themselves
        { "length", constant }, { "first", constant }, { "last", constant }, { "get", constant }, { "list", nothing },
        { "keys", nothing }, { "values", nothing }, { "pop", constant }, { "default", constant }, { "map", nothing },
        { "select", nothing }, { "selectattr", nothing }, { "reject", nothing }, { "rejectattr", nothing },
        { "reverse", nothing }, { "namespace", nothing }, { "startswith", nothing }, { "endswith", nothing },
        { "count", constant }, { "d", constant },
    };
    return all;
}

check check_of(const std::string & name) {
    const auto found = checks().find(name);
    if (found != checks().end()) {
        return found->second;
    }
    return name.rfind("test_is_", 0) == 0 ? nothing : check_writing;
}

struct builtin {
    jinja::func_handler original;
    check               before;
};

// As small as a pointer: the engine copies its tables for every name it looks up.
struct guarded_builtin {
    const builtin * it;

    value operator()(const func_args & args) const {
        if (auto * meter = template_meter::current()) {
            charge(*meter, args);
        }
        return it->original(args);
    }

    void charge(template_meter & meter, const func_args & args) const {
        const auto & all = args.get_args();
        meter.spend(100);
        if (all.empty()) {
            return;
        }
        it->before(meter, args);
        double arguments = 0;
        for (size_t index = 1; index < all.size(); index++) {
            arguments += 10 + meter.measure(all[index]).bytes;
        }
        if (it->before != constant && it->before != check_append) {
            meter.spend(item_count(all[0]) * (20 + arguments));  // compared or looked up with each
        }
    }
};

void guard_table(const jinja::func_builtins & table) {
    static std::set<const jinja::func_builtins *> done;
    if (!done.insert(&table).second) {
        return;
    }
    for (const auto & [name, handler] : table) {
        // never freed: the table lives as long as the process. The handler is an element of a map's node, and not const.
        const auto * it = new builtin{ handler, check_of(name) };
        const_cast<jinja::func_handler &>(handler) = guarded_builtin{ it };
    }
}

}  // namespace

void guard_builtins() {
    static std::once_flag once;
    std::call_once(once, [] {
        guard_table(jinja::global_builtins());
        const value kinds[] = { jinja::mk_val<jinja::value_int>(0), jinja::mk_val<jinja::value_float>(0.0),
                                jinja::mk_val<jinja::value_string>(""), jinja::mk_val<jinja::value_bool>(false),
                                jinja::mk_val<jinja::value_array>(), jinja::mk_val<jinja::value_object>(),
                                jinja::mk_val<jinja::value_none>(), jinja::mk_val<jinja::value_undefined>() };
        for (const value & kind : kinds) {
            guard_table(kind->get_builtins());
        }
    });
}

bool may_write_out(const std::string & filter) {
    return filter == "replace" || filter == "strip" || checks().count(filter) == 0;
}

}  // namespace gollama
