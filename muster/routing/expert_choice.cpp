// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>

#include "muster/routing/selection.h"

namespace muster {
namespace {

/// The `capacity` best tokens of expert `e` to scratch.order, ties by lower token.
void rank_tokens(int tokens, int experts, int e, int capacity, RouteScratch& scratch) {
    float* column = scratch.work.data() + static_cast<size_t>(tokens) * experts;
    for (int t = 0; t < tokens; ++t)
        column[t] = scratch.scores[static_cast<size_t>(t) * experts + e];
    best_first({column, static_cast<size_t>(tokens)}, capacity, scratch.order.data());
}

}  // namespace

void choose_tokens(int tokens, const ResolvedRouter& router, RouteScratch& scratch,
                   RouteTable& table) {
    constexpr float kOut = -std::numeric_limits<float>::infinity();
    const RouterSpec& spec = router.spec;
    const int experts = spec.num_experts;
    // A quotient that is whole but for the factor's f32 rounding is whole.
    const double places =
        std::ceil(tokens * spec.value * spec.capacity_factor / experts * (1 - 1e-7));
    const int capacity = static_cast<int>(std::min<double>(tokens, places));

    // [T, E]: the score where the expert chose the token; behind it one column of scores.
    const size_t cells = static_cast<size_t>(tokens) * experts;
    scratch.work.resize(cells + tokens);
    std::fill_n(scratch.work.begin(), cells, kOut);
    scratch.order.resize(std::max(tokens, experts));
    for (int e = 0; e < experts; ++e) {
        if (std::find(router.ban.begin(), router.ban.end(), e) != router.ban.end()) continue;
        rank_tokens(tokens, experts, e, capacity, scratch);
        for (int i = 0; i < capacity; ++i) {
            const size_t cell = static_cast<size_t>(scratch.order[i]) * experts + e;
            scratch.work[cell] = scratch.scores[cell];
        }
    }
    for (int t = 0; t < tokens; ++t) {
        const float* chosen = scratch.work.data() + static_cast<size_t>(t) * experts;
        const int count = static_cast<int>(experts - std::count(chosen, chosen + experts, kOut));
        best_first({chosen, static_cast<size_t>(experts)}, count, scratch.order.data());
        table.experts.insert(table.experts.end(), scratch.order.data(),
                             scratch.order.data() + count);
        table.offsets.push_back(table.activations());
    }
}

}  // namespace muster
