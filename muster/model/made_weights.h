// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <set>
#include <string>

#include "muster/checkpoint/weight_map.h"
#include "muster/core/executor.h"
#include "muster/core/progress.h"

namespace muster {

using TensorNames = std::set<std::string, std::less<>>;

/// Makes the tensors of `file` that are made of others (WeightMap::add_made) where they have their
/// places, but for those in `except`, on all workers; what they are made of is dropped from memory
/// on the way. Throws what their makers throw, and Error when `progress` (may be empty, in bytes)
/// says stop.
void make_weights(WeightMap& file, const TensorNames& except, Executor& executor,
                  const Progress& progress);

}  // namespace muster
