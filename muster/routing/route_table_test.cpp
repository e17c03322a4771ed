// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/route_table.h"

#include <gmock/gmock.h>

#include "muster/routing/testing.h"

namespace muster {
namespace {

using namespace routing_testing;
using testing::ElementsAre;

TEST(DispatchPlan, SortsByExpertStableByToken) {
    RouteTable routes;
    routes.clear(4);
    routes.offsets = {0, 2, 2, 5};
    routes.experts = {3, 0, 0, 3, 2};
    routes.weights = {0.1f, 0.2f, 0.3f, 0.4f, 0.5f};
    DispatchPlan plan;
    make_dispatch_plan(routes, plan);
    EXPECT_THAT(plan.expert_offsets, ElementsAre(0, 2, 2, 3, 5));
    EXPECT_THAT(plan.tokens, ElementsAre(0, 2, 2, 0, 2));
    EXPECT_THAT(plan.weights, ElementsAre(0.2f, 0.3f, 0.5f, 0.1f, 0.4f));
    EXPECT_THAT(plan.row_of, ElementsAre(3, 0, 1, 4, 2));
}

TEST(DispatchPlan, NoTokensAndOneExpert) {
    RouteTable routes;
    DispatchPlan plan;
    routes.clear(3);
    make_dispatch_plan(routes, plan);
    EXPECT_THAT(plan.expert_offsets, ElementsAre(0, 0, 0, 0));
    EXPECT_EQ(plan.rows(), 0);
    const Routed one = run(random_logits(3, 1, 1), resolved("top-k:1", spec_of(1)));
    make_dispatch_plan(one.table, plan);
    EXPECT_THAT(plan.tokens, ElementsAre(0, 1, 2));
}

TEST(DispatchPlan, HoldsEveryActivationOfRandomTables) {
    DispatchPlan plan;  // reused, larger and smaller
    for (uint64_t seed = 0; seed < 30; ++seed) {
        const int tokens = static_cast<int>(mix64(seed) % 70), experts = 1 + seed % 20;
        const Routed routed =
            run(random_logits(tokens, experts, seed), resolved("top-p:0.7", spec_of(experts)));
        const RouteTable& routes = routed.table;
        make_dispatch_plan(routes, plan);
        ASSERT_EQ(plan.rows(), routes.activations());
        ASSERT_EQ(plan.num_experts(), experts);
        EXPECT_EQ(plan.expert_offsets.front(), 0);
        EXPECT_EQ(plan.expert_offsets.back(), routes.activations());
        for (int t = 0; t < tokens; ++t)
            for (int a = routes.offsets[t]; a < routes.offsets[t + 1]; ++a) {
                const int row = plan.row_of[a], e = routes.experts[a];
                EXPECT_EQ(plan.tokens[row], t);
                EXPECT_EQ(plan.weights[row], routes.weights[a]);
                EXPECT_TRUE(plan.expert_offsets[e] <= row && row < plan.expert_offsets[e + 1]);
            }
        for (int e = 0; e < experts; ++e)
            for (int row = plan.expert_offsets[e] + 1; row < plan.expert_offsets[e + 1]; ++row)
                EXPECT_LT(plan.tokens[row - 1], plan.tokens[row]);
    }
}

}  // namespace
}  // namespace muster
