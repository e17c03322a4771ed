// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "muster/checkpoint/weight_map.h"
#include "muster/core/executor.h"
#include "muster/core/progress.h"

namespace muster {

/// Reads every tensor once, on all workers. Throws Error naming the first tensor, in the order of
/// names, that holds NaN or infinite weights, and when `progress` (may be empty, in bytes) says
/// stop. `drop`: pages of mapped files are given back as soon as they are read, so that memory does
/// not grow with the model.
void check_weights(const WeightMap& file, Executor& executor, const Progress& progress, bool drop);

}  // namespace muster
