#pragma once

#include "gollama.h"

#include "sampling.h"  // common

struct gollama_sampler {
    common_sampler_ptr sampler;
};
