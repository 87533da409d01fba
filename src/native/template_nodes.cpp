// Each node of a program is replaced by one of a class derived from its own, so that the casts in llama.cpp's engine still
// find what they look for. It charges the meter, lets the node compute, and charges for what came out.
#include "template_nodes.hpp"

#include "template_builtins.hpp"
#include "template_meter.hpp"

#include <algorithm>
#include <memory>
#include <type_traits>

using jinja::context;
using jinja::is_val;
using jinja::statement_ptr;
using jinja::value;

namespace gollama {

namespace {

// What becomes of a node's value.
enum use : unsigned {
    PLAIN    = 0,
    OUTPUT   = 1,   // joined with the output of the block around
    PROMPT   = 2,   // part of what the whole template writes
    ITERATED = 4,   // a loop runs over it
    KEY      = 8,   // looked up, for which it is hashed and printed
    TEXT     = 16,  // turned into text if it is none
    MADE     = 32,  // the node's own work, not merely passed on
};

// Nanoseconds, roughly. The engine copies its table of functions for each name that it looks up, and all variables for
// each scope that it opens.
const double STEP = 150, LOOK_UP = 900, VARIABLE = 90, ITERATION = 3000;
const int    MOST_VARIABLES = 1000;  // the templates of llama.cpp's models/templates set up to 100
const double SMALL = 256;  // a text of no more bytes counts with the list that it is in

struct cost {
    unsigned                      uses;
    double                        nanoseconds;
    double                        scopes;     // opened by the node, or for each item by the loop over its value
    std::shared_ptr<const double> variables;  // the most that a scope of this template may hold
};

// The engine joins texts, numbers, and what lists hold of both.
void charge_output(template_meter & meter, const value & result, bool prompt) {
    const bool   list    = is_val<jinja::value_array>(result);
    const extent size    = list ? meter.measure(result) : extent{ 1.0 * result->is_numeric(), text_size(result->val_str), 1 };
    const double written = size.bytes + 350 * size.values;
    meter.allocate(300 + written);
    if (prompt) {
        meter.write(list ? written : 350 * size.values + result->val_str.length());
    }
}

// The result, which from now on may count as memory in use.
value charge_result(template_meter & meter, value result, const cost & cost) {
    const bool   text = is_val<jinja::value_string>(result);
    const double size = text ? text_size(result->val_str) : 0;
    meter.spend(size / 20 + 2.0 * item_count(result));  // whoever gets it copies it
    if (!text && is_container(result)) {
        const auto & items = result->val_arr;
        const bool   flat  = !items.empty() && std::none_of(items.begin(), items.end(), is_container);
        if (!flat) {
            meter.keep(result);
        } else if (cost.uses & MADE) {
            result = meter.hold(result, 300.0 * items.size());
        }
    } else if (text && size > SMALL && cost.uses & MADE) {
        result = meter.hold(result, size);
    }
    if (cost.uses & OUTPUT) {
        charge_output(meter, result, cost.uses & PROMPT);
    }
    if (cost.uses & ITERATED) {
        meter.spend(item_count(result) * (ITERATION + VARIABLE * *cost.variables));
        meter.allocate(300.0 * item_count(result));
    }
    if (cost.uses & (KEY | TEXT)) {
        const extent whole = meter.measure(result);
        meter.allocate(text ? 0 : whole.text());
    }
    return result;
}

// An operand that is already known.
struct known : jinja::expression {
    value result;
    explicit known(value result) : result(std::move(result)) {}
    value execute_impl(context &) override { return result; }
};

// What `left` and `right` will be made into, before it is.
void charge_operation(template_meter & meter, const std::string & sign, const value & left, const value & right) {
    const extent one = meter.measure(left), other = meter.measure(right);
    const bool   text = is_val<jinja::value_string>(left) || is_val<jinja::value_string>(right);
    meter.spend((one.bytes + other.bytes) / 10);
    if (sign == "*" && text) {
        const value & times = is_val<jinja::value_int>(right) ? right : left;
        meter.allocate((one.bytes + other.bytes) * std::max<double>(times->val_int, 0));
    } else if (sign == "+" || sign == "~") {
        const auto length = [](const value & side, const extent & size) {
            return is_val<jinja::value_string>(side) ? size.bytes : size.text();
        };
        meter.allocate(text ? length(left, one) + length(right, other) : 16.0 * (item_count(left) + item_count(right)));
    }
}

value compute(jinja::binary_expression & node, context & context, template_meter & meter) {
    if (node.op.value == "and" || node.op.value == "or") {
        return node.jinja::binary_expression::execute_impl(context);
    }
    auto left  = std::make_unique<known>(node.left->execute(context));
    auto right = std::make_unique<known>(node.right->execute(context));
    charge_operation(meter, node.op.value, left->result, right->result);
    return jinja::binary_expression(node.op, std::move(left), std::move(right)).execute_impl(context);
}

template <typename Node>
struct metered_node final : Node {
    gollama::cost cost;

    metered_node(Node && node, gollama::cost cost) : Node(std::move(node)), cost(std::move(cost)) {}

    value execute_impl(context & context) override {
        auto * meter = template_meter::current();
        if (meter == nullptr) {
            return Node::execute_impl(context);
        }
        meter->enter(*this, context, cost.nanoseconds + cost.scopes * VARIABLE * *cost.variables);
        if constexpr (std::is_same_v<Node, jinja::call_statement>) {
            meter->allocate(700 * *cost.variables);  // the caller's scope, which the macro may keep
        }
        return charge_result(*meter, run(context, *meter), cost);
    }

    value run(context & context, template_meter & meter) {
        const template_meter::scratch scratch(meter);
        if constexpr (std::is_same_v<Node, jinja::binary_expression>) {
            return compute(*this, context, meter);
        } else {
            return Node::execute_impl(context);
        }
    }
};

struct run_start final : jinja::statement {
    value execute_impl(context & context) override {
        if (auto * meter = template_meter::current()) {
            meter->enter(*this, context, STEP);
            meter->start_run(context);
        }
        return jinja::mk_val<jinja::value_undefined>();
    }
};

class instrumentation {
  public:
    void body(jinja::statements & all, unsigned uses = OUTPUT) {
        for (auto & one : all) {
            node(one, uses);
        }
    }

    void node(statement_ptr & slot, unsigned uses = PLAIN);

    // Names may be chosen so that looking them up takes the square of their number.
    void check() const {
        if (*variables > MOST_VARIABLES) {
            throw failure(GOLLAMA_INVALID_ARGUMENT, "the template sets more than " + std::to_string(MOST_VARIABLES) + " variables");
        }
    }

  private:
    // Replaces the node if it is of that class, after its parts.
    template <typename Node>
    bool replace(statement_ptr & slot, unsigned uses, double nanoseconds = STEP, double scopes = 0) {
        auto * found = jinja::cast_stmt<Node>(slot);
        if (found == nullptr) {
            return false;
        }
        parts(*found);
        const auto position = found->pos;
        slot      = std::make_unique<metered_node<Node>>(std::move(*found), cost{ uses, nanoseconds, scopes, variables });
        slot->pos = position;
        return true;
    }

    // Names that a filter, test or parameter is called by are not computed; what they are given is.
    void arguments(jinja::statements & all) {
        for (auto & one : all) {
            if (auto * named = jinja::cast_stmt<jinja::keyword_argument_expression>(one)) {
                node(named->val);
            }
            ++*variables;
        }
    }
    void call_arguments(statement_ptr & call) {
        if (auto * found = jinja::cast_stmt<jinja::call_expression>(call)) {
            body(found->args, PLAIN);
        }
    }

    void parts(jinja::statement &) {}  // names, literals and what else has none
    void parts(jinja::if_statement & it) { node(it.test), body(it.body), body(it.alternate); }
    void parts(jinja::for_statement & it) {
        auto * select = jinja::cast_stmt<jinja::select_expression>(it.iterable);
        if (select) {
            node(select->test);
        }
        node(select ? select->lhs : it.iterable, ITERATED);
        if (auto * names = jinja::cast_stmt<jinja::tuple_literal>(it.loopvar)) {
            *variables += names->val.size();
        }
        *variables += 2;
        body(it.body), body(it.default_block);
    }
    void parts(jinja::set_statement & it) {
        if (auto * member = jinja::cast_stmt<jinja::member_expression>(it.assignee)) {
            node(member->object);
        } else if (auto * names = jinja::cast_stmt<jinja::tuple_literal>(it.assignee)) {
            *variables += names->val.size();
        }
        ++*variables;
        node(it.val), body(it.body);
    }
    void parts(jinja::macro_statement & it) { ++*variables, arguments(it.args), body(it.body); }
    void parts(jinja::call_statement & it) {
        auto & call = static_cast<jinja::call_expression &>(*it.call);  // is what the parser makes
        node(call.callee), body(call.args, PLAIN), arguments(it.caller_args), body(it.body);
        ++*variables;
    }
    void parts(jinja::member_expression & it) {
        node(it.object);
        if (auto * slice = jinja::cast_stmt<jinja::slice_expression>(it.property)) {
            node(slice->start_expr), node(slice->stop_expr), node(slice->step_expr);
        } else if (it.computed) {
            node(it.property, KEY);
        }
    }
    void parts(jinja::call_expression & it) { node(it.callee), body(it.args, PLAIN); }
    void parts(jinja::array_literal & it) { body(it.val, PLAIN); }
    void parts(jinja::tuple_literal & it) { body(it.val, PLAIN); }
    void parts(jinja::object_literal & it) {
        for (auto & [key, item] : it.val) {
            node(key, KEY), node(item);
        }
    }
    void parts(jinja::binary_expression & it) { node(it.left), node(it.right); }
    void parts(jinja::filter_expression & it) {
        const auto * call = jinja::cast_stmt<jinja::call_expression>(it.filter);
        const auto * name = jinja::cast_stmt<jinja::identifier>(call ? call->callee : it.filter);
        node(it.operand, name && may_write_out(name->val == "trim" ? "strip" : name->val) ? TEXT : PLAIN);
        call_arguments(it.filter);
    }
    void parts(jinja::test_expression & it) { node(it.operand), call_arguments(it.test); }
    void parts(jinja::unary_expression & it) { node(it.argument); }
    void parts(jinja::select_expression & it) { node(it.lhs), node(it.test); }
    void parts(jinja::ternary_expression & it) { node(it.condition), node(it.true_expr), node(it.false_expr); }
    void parts(jinja::keyword_argument_expression & it) { node(it.val); }

    // A block that is filtered, as the filter of an if that is always true: the engine's own statement loses its filter where
    // that throws.
    static statement_ptr filtered(jinja::filter_statement & it) {
        const auto at = it.pos;
        auto       block  = std::make_unique<jinja::if_statement>(std::make_unique<jinja::integer_literal>(1), std::move(it.body),
                                                                  jinja::statements());
        block->test->pos  = at;
        block->pos        = at;
        auto result       = std::make_unique<jinja::filter_expression>(std::move(block), std::move(it.filter));
        result->pos       = at;
        return result;
    }

    std::shared_ptr<double> variables = std::make_shared<double>(24);  // what llama.cpp sets
};

void instrumentation::node(statement_ptr & slot, unsigned uses) {
    using namespace jinja;
    if (!slot) {
        return;
    }
    if (auto * block = cast_stmt<filter_statement>(slot)) {
        slot = filtered(*block);
    }
    const auto *   member = cast_stmt<member_expression>(slot);
    const bool     cut    = member && is_stmt<slice_expression>(member->property);
    const unsigned made   = uses | MADE;
    const bool     done   =
        replace<identifier>(slot, uses, LOOK_UP) || replace<string_literal>(slot, made) ||
        replace<member_expression>(slot, cut ? made : uses, LOOK_UP) || replace<binary_expression>(slot, made) ||
        replace<if_statement>(slot, made) || replace<set_statement>(slot, uses) ||
        replace<filter_expression>(slot, made, LOOK_UP) || replace<test_expression>(slot, uses, LOOK_UP) ||
        replace<call_expression>(slot, made, LOOK_UP, 1) || replace<for_statement>(slot, made, LOOK_UP, 1) ||
        replace<macro_statement>(slot, uses) || replace<call_statement>(slot, made, LOOK_UP, 3) ||
        replace<integer_literal>(slot, uses) ||
        replace<float_literal>(slot, uses) || replace<array_literal>(slot, made) || replace<tuple_literal>(slot, made) ||
        replace<object_literal>(slot, uses) || replace<unary_expression>(slot, uses) ||
        replace<select_expression>(slot, uses) || replace<ternary_expression>(slot, uses) ||
        replace<keyword_argument_expression>(slot, uses) || replace<comment_statement>(slot, uses) ||
        replace<noop_statement>(slot, uses) || replace<blank_expression>(slot, uses) ||
        // these only throw
        is_stmt<break_statement>(slot) || is_stmt<continue_statement>(slot) || is_stmt<spread_expression>(slot) ||
        is_stmt<slice_expression>(slot);
    if (!done) {
        throw failure(GOLLAMA_FAILED, "gollama does not know the template's part " + slot->type());
    }
}

}  // namespace

void instrument(jinja::program & program) {
    instrumentation nodes;
    nodes.body(program.body, OUTPUT | PROMPT);
    nodes.check();
    auto start = std::make_unique<run_start>();
    start->pos = 0;
    program.body.insert(program.body.begin(), std::move(start));
}

}  // namespace gollama
