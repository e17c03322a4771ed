// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/route_table.h"

#include <algorithm>

namespace muster {

void RouteTable::clear(int experts_count) {
    num_experts = experts_count;
    offsets.assign(1, 0);
    experts.clear();
    weights.clear();
}

void make_dispatch_plan(const RouteTable& routes, DispatchPlan& plan) {
    const int activations = routes.activations();
    auto& next = plan.expert_offsets;  // one slot ahead while rows are handed out
    next.assign(routes.num_experts + 1, 0);
    plan.tokens.resize(activations);
    plan.weights.resize(activations);
    plan.row_of.resize(activations);

    for (const int32_t e : routes.experts) ++next[e + 1];
    for (int e = 0; e < routes.num_experts; ++e) next[e + 1] += next[e];
    for (int t = 0; t < routes.tokens(); ++t) {
        for (int32_t a = routes.offsets[t]; a < routes.offsets[t + 1]; ++a) {
            const int32_t row = next[routes.experts[a]]++;
            plan.tokens[row] = t;
            plan.weights[row] = routes.weights[a];
            plan.row_of[a] = row;
        }
    }
    // Each entry now stands at the end of its expert's rows, that is at the next one's start.
    for (int e = routes.num_experts; e > 0; --e) next[e] = next[e - 1];
    next[0] = 0;
}

}  // namespace muster
