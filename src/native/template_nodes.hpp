#pragma once

#include "jinja/runtime.h"  // common

namespace gollama {

// Makes every step of a parsed template charge the template_meter of the thread that runs it.
void instrument(jinja::program & program);

}  // namespace gollama
