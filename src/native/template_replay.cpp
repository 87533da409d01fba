#include "template_replay.hpp"

namespace gollama {

namespace {

struct whole_program : jinja::statement {
    jinja::statements body;
    template_replay * replay;

    whole_program(jinja::statements && body, template_replay * replay) : body(std::move(body)), replay(replay) { pos = 0; }
    std::string type() const override { return "Program"; }

    jinja::value execute_impl(jinja::context & context) override {
        if (replay->known && replay->rendering++ > 0) {
            return jinja::mk_val<jinja::value_string>(replay->rendering == 2 ? "" : *replay->known);
        }
        auto results = jinja::mk_val<jinja::value_array>();
        for (const auto & statement : body) {
            results->push_back(statement->execute(context));
        }
        return results;
    }
};

}  // namespace

void template_replay::begin(const std::string & generation_prompt) {
    known     = &generation_prompt;
    rendering = 0;
}

void template_replay::take_part(jinja::program & program) {
    auto whole = std::make_unique<whole_program>(std::move(program.body), this);
    program.body.clear();
    program.body.push_back(std::move(whole));
}

}  // namespace gollama
