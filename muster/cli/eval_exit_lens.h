// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "muster/cli/eval.h"

namespace muster::cli {

/// `muster eval --exit-lens`. Throws Error.
int exit_lens_command(const EvalOptions& options, Terminal& terminal);

}  // namespace muster::cli
