// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "muster/routing/statistics.h"

namespace muster::cli {

/// A table, layer by layer: experts per token, how many of them worked at all, and the busiest with
/// their shares of tokens. Says so when nothing was counted.
std::string expert_use(const RoutingStatistics& statistics);

}  // namespace muster::cli
