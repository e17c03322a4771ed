// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/statistics.h"

#include <gmock/gmock.h>

#include "muster/routing/testing.h"

namespace muster {
namespace {

using namespace routing_testing;
using testing::ElementsAre;

RouteTable table_of(int experts, const std::vector<std::vector<int>>& tokens) {
    RouteTable table;
    table.clear(experts);
    for (const auto& token : tokens) {
        for (const int e : token) {
            table.experts.push_back(e);
            table.weights.push_back(0.5f);
        }
        table.offsets.push_back(table.activations());
    }
    return table;
}

TEST(LoadStatistics, CountsAndMeasures) {
    LoadStatistics s;
    s.add(table_of(4, {{0, 1}, {0}, {0, 1, 2}}));
    EXPECT_THAT(s.load, ElementsAre(3, 2, 1, 0));
    EXPECT_THAT(s.weight, ElementsAre(1.5, 1.0, 0.5, 0.0));
    EXPECT_EQ(s.tokens, 3);
    EXPECT_EQ(s.activations(), 6);
    EXPECT_DOUBLE_EQ(s.experts_per_token(), 2);
    EXPECT_DOUBLE_EQ(s.coefficient_of_variation(), std::sqrt(1.25) / 1.5);
    EXPECT_DOUBLE_EQ(s.max_over_mean(), 2);
    EXPECT_NEAR(s.entropy(), std::log(6.0) - (3 * std::log(3.0) + 2 * std::log(2.0)) / 6, 1e-12);
    EXPECT_EQ(s.dead_experts(), 1);
}

TEST(LoadStatistics, PerfectBalance) {
    LoadStatistics s;
    s.add(table_of(3, {{0}, {1}, {2}}));
    EXPECT_DOUBLE_EQ(s.coefficient_of_variation(), 0);
    EXPECT_DOUBLE_EQ(s.max_over_mean(), 1);
    EXPECT_NEAR(s.entropy(), std::log(3.0), 1e-12);
    EXPECT_EQ(s.dead_experts(), 0);
}

TEST(LoadStatistics, MergingEqualsAdding) {
    const RouteTable a = run(random_logits(9, 5, 1), resolved("top-k:2", spec_of(5))).table;
    const RouteTable b = run(random_logits(4, 5, 2), resolved("top-p:0.6", spec_of(5))).table;
    LoadStatistics both, first, second, empty;
    both.add(a), both.add(b);
    first.add(a), second.add(b);
    first.merge(empty);
    first.merge(second);
    empty.merge(first);
    for (const LoadStatistics* s : {&first, &empty}) {
        EXPECT_EQ(s->load, both.load);
        EXPECT_EQ(s->tokens, both.tokens);
        for (int e = 0; e < 5; ++e) EXPECT_NEAR(s->weight[e], both.weight[e], 1e-12);
    }
}

TEST(LoadStatistics, NothingCountedGivesZeros) {
    LoadStatistics s;
    for (int i = 0; i < 2; ++i) {
        EXPECT_EQ(s.experts_per_token(), 0);
        EXPECT_EQ(s.coefficient_of_variation(), 0);
        EXPECT_EQ(s.max_over_mean(), 0);
        EXPECT_EQ(s.entropy(), 0);
        s.add(table_of(4, {}));
    }
    EXPECT_EQ(s.dead_experts(), 4);
}

}  // namespace
}  // namespace muster
