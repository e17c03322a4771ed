// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "muster/cli/eval.h"

namespace muster::cli {

/// `muster eval --task`. Throws Error; a records file is complete or not written.
int eval_task_command(const EvalOptions& options, Terminal& terminal);

}  // namespace muster::cli
