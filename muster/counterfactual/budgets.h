// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

namespace muster {

/// Whole budgets in proportion to `worth` [L] (at least 0, finite; not all 0: else equal) that sum
/// to `total`, each between its bounds: the common factor is found under the bounds, and what
/// rounding down leaves goes to the largest remainders (Hare's method), ties to the lower layer.
/// sum(low) <= total <= sum(high), low <= high (asserted).
std::vector<int> share_budget(std::span<const double> worth, int total, std::span<const int> low,
                              std::span<const int> high);

/// Budgets [L] that sum to `total` with the least sum of costs: costs[l][i] is that of low[l] + i
/// in layer l, finite. Of equals, the same in every run. Throws Error when no budgets sum to the
/// total.
std::vector<int> cheapest_budgets(std::span<const std::vector<double>> costs,
                                  std::span<const int> low, int total);

}  // namespace muster
