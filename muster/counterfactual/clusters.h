// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "muster/counterfactual/measurements.h"
#include "muster/routing/activation_plan.h"

namespace muster {

/// Windows parted by what their routers did, at most `count` clusters (k-means, Lloyd 1982, seeded
/// as k-means++, Arthur and Vassilvitskii 2007; the best of several starts, the same in every run),
/// with the experts' impacts within each.
std::vector<ContextCluster> context_clusters(std::span<const WindowMeasurement> windows, int count);

}  // namespace muster
