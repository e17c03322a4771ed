// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "muster/cli/inputs.h"

namespace muster::cli {

/// `muster inspect`: what a model file holds.
struct InspectOptions {
    ModelOptions model;
    bool tensors = false;  ///< list every tensor
    bool json = false;
};

/// Throws Error.
int inspect_command(const InspectOptions& options, Terminal& terminal);

}  // namespace muster::cli
