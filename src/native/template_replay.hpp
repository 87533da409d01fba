#pragma once

#include "chat.h"  // common

#include <string>

namespace gollama {

// llama.cpp finds out what a prompt ends with by rendering it twice more, without that and with it. Where the answer is known,
// these two renderings can do without the work.
class template_replay {
  public:
    // From here on, of three renderings the first is real; the others give what differs by exactly `generation_prompt`.
    void begin(const std::string & generation_prompt);
    void end() { known = nullptr; }

    // Has a template's program ask here. The replay must live as long.
    void take_part(jinja::program & program);

    const std::string * known = nullptr;
    int                 rendering = 0;
};

}  // namespace gollama
