// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "muster/cli/inputs.h"

namespace muster::cli {

/// `muster inspect`: what a model file holds.
struct InspectOptions {
    ModelOptions model;
    int context = 0;          ///< whose memory is shown; 0: the model's
    std::string kv = "auto";  ///< of keys and values: auto, f32, f16 or q8_0
    bool tensors = false;     ///< list every tensor
    bool json = false;
};

/// Throws Error.
int inspect_command(const InspectOptions& options, Terminal& terminal);

}  // namespace muster::cli
