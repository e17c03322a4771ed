// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "muster/core/random.h"
#include "muster/routing/router.h"

// What the tests of this folder share.
namespace muster::routing_testing {

struct Logits {
    int tokens, experts;
    std::vector<float> data;
    MatrixView<const float> view() const { return {data.data(), tokens, experts}; }
    std::span<const float> row(int t) const {
        return {data.data() + static_cast<size_t>(t) * experts, static_cast<size_t>(experts)};
    }
};

/// Normal logits; with `coarse` rounded to halves, so that ties are frequent.
inline Logits random_logits(int tokens, int experts, uint64_t seed, bool coarse = false) {
    Logits logits{tokens, experts, std::vector<float>(static_cast<size_t>(tokens) * experts)};
    Random random(seed);
    for (float& x : logits.data) {
        x = static_cast<float>(2 * random.normal());
        if (coarse) x = std::round(x * 2) / 2;
    }
    return logits;
}

inline RouterSpec spec_of(int experts, Selection selection = Selection::top_k, double value = 1) {
    RouterSpec spec;
    spec.num_experts = experts;
    spec.selection = selection;
    spec.value = value;
    return spec;
}

inline ResolvedRouter resolved(const char* policy, const RouterSpec& spec) {
    return resolve(RoutingPolicy::parse(policy), spec, 0, 1);
}

struct Routed {
    RouteTable table;
    std::vector<float> scores;
    std::vector<OverGrid<int32_t>> by_grid;
};

/// Routes with everything a selection might ask for: positions 0, 1, 2 … unless given.
inline Routed run(const Logits& logits, const ResolvedRouter& router,
                  const RouterParameters& parameters = {}, RouteContext context = {}) {
    std::vector<int64_t> positions(logits.tokens);
    std::iota(positions.begin(), positions.end(), 0);
    if (context.positions.empty()) context.positions = positions;
    RouteScratch scratch;
    Routed routed;
    route(logits.view(), router, parameters, context, scratch, routed.table);
    routed.scores = scratch.scores;
    routed.by_grid = scratch.by_grid;
    return routed;
}

inline std::vector<int> experts_of(const RouteTable& table, int t) {
    const auto experts = table.token_experts(t);
    return {experts.begin(), experts.end()};
}

/// All indices by falling key, ties by rising index: the reference for every ranking.
inline std::vector<int> ranking(std::span<const float> keys) {
    std::vector<int> order(keys.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return keys[a] > keys[b]; });
    return order;
}

}  // namespace muster::routing_testing
