// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "muster/routing/router.h"

namespace muster {

// The second axis: which experts a token gets. Internal to routing/.
//
// Every selection works on keys, one per expert: the score plus the selection bias (`random`: a
// random number); minus infinity takes an expert out (banned, or outside the best groups). Experts
// are ranked by falling key, ties by rising index. A selection is a number of leading experts
// (top-k, top-p) or a set (relative, threshold, hash); the budget then cuts or fills it along the
// ranking.

/// One token's row and everything its selection may depend on.
struct TokenView {
    std::span<const float> scores;  ///< [E], without bias
    const ResolvedRouter& router;
    const RouterParameters& parameters;
    const RouteContext& context;
    int64_t token;
};

/// Writes the selected experts, strongest first, to scratch.order; returns their number. Needs
/// scratch.order [E] and scratch.work [3 E].
int select_experts(const TokenView& token, RouteScratch& scratch);

/// Expert choice over the whole batch, from scratch.scores [T, E]: appends to `table` all but the
/// weights. Sizes scratch itself.
void choose_tokens(int tokens, const ResolvedRouter& router, RouteScratch& scratch,
                   RouteTable& table);

/// The indices of the `count` largest keys to order[0 .. count), largest first, ties by lower
/// index. `order` has room for keys.size() >= count. No NaN among the keys.
void best_first(std::span<const float> keys, int count, int32_t* order) noexcept;

/// What top-p counts as mass.
struct Prefix {
    double share = 1;  ///< that the selected experts reach, the crossing one kept
    double even = 0;   ///< mass spread evenly over the candidates, as a share of the scores' sum
};

/// How many leading experts of the ranking reach the share of the mass of the scores whose key is
/// above minus infinity; between `low` and `high`. Ranks them in `order`.
int shortest_prefix(std::span<const float> scores, std::span<const float> keys,
                    const Prefix& prefix, int low, int high, int32_t* order) noexcept;

/// The same for every p of the controllers' grid as the share, into `counts`. Ranks the best `high`
/// experts in `order`.
void prefixes_over_grid(std::span<const float> scores, std::span<const float> keys, double even,
                        int low, int high, int32_t* order, OverGrid<int32_t>& counts) noexcept;

}  // namespace muster
