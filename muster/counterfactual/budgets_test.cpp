// SPDX-License-Identifier: Apache-2.0
#include "muster/counterfactual/budgets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "muster/core/error.h"
#include "muster/core/random.h"

namespace muster {
namespace {

using ::testing::ElementsAre;

std::vector<int> shared(std::vector<double> worth, int total, int low, int high) {
    const std::vector<int> lows(worth.size(), low), highs(worth.size(), high);
    return share_budget(worth, total, lows, highs);
}

TEST(ShareBudget, FollowsTheWorthWithLargestRemainders) {
    EXPECT_THAT(shared({1, 1, 2}, 8, 1, 8), ElementsAre(2, 2, 4));
    EXPECT_THAT(shared({5, 3, 1}, 10, 1, 10), ElementsAre(6, 3, 1));  // 5.56, 3.33, 1.11
    EXPECT_THAT(shared({1, 1, 1}, 7, 1, 8), ElementsAre(3, 2, 2));    // ties: the lower layer
}

TEST(ShareBudget, BoundsTakeFromTheOthers) {
    EXPECT_THAT(shared({100, 1, 1}, 12, 1, 8), ElementsAre(8, 2, 2));
    EXPECT_THAT(shared({100, 1, 1}, 12, 3, 5), ElementsAre(5, 4, 3));
    EXPECT_THAT(shared({1, 0, 0}, 12, 1, 8), ElementsAre(8, 2, 2));
}

TEST(ShareBudget, NothingIsWorthAnything) {
    EXPECT_THAT(shared({0, 0, 0}, 6, 1, 8), ElementsAre(2, 2, 2));
}

TEST(ShareBudget, AlwaysSumsToTheTotalWithinBounds) {
    Random random(3);
    for (int i = 0; i < 2000; ++i) {
        const size_t n = 1 + random.below(48);
        const int k = 1 + static_cast<int>(random.below(8));
        std::vector<double> worth(n);
        for (double& w : worth) w = random.below(5) == 0 ? 0 : std::exp(3 * random.normal());
        std::vector<int> low(n), high(n);
        for (size_t l = 0; l < n; ++l) {
            low[l] = 1 + static_cast<int>(random.below(static_cast<uint64_t>(k)));
            high[l] = k + static_cast<int>(random.below(20));
        }
        const int total = static_cast<int>(n) * k;
        const std::vector<int> got = share_budget(worth, total, low, high);
        EXPECT_EQ(std::accumulate(got.begin(), got.end(), 0), total);
        for (size_t l = 0; l < n; ++l) {
            EXPECT_GE(got[l], low[l]);
            EXPECT_LE(got[l], high[l]);
        }
    }
}

/// All ways to sum to the total, one by one.
double least_cost(const std::vector<std::vector<double>>& costs, const std::vector<int>& low,
                  size_t l, int left) {
    if (l == costs.size()) return left == 0 ? 0 : std::numeric_limits<double>::infinity();
    double best = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < costs[l].size(); ++i)
        best = std::min(
            best, costs[l][i] + least_cost(costs, low, l + 1, left - low[l] - static_cast<int>(i)));
    return best;
}

TEST(CheapestBudgets, AreThoseOfAllTries) {
    Random random(8);
    for (int round = 0; round < 100; ++round) {
        const size_t layers = 1 + random.below(5);
        std::vector<std::vector<double>> costs(layers);
        std::vector<int> low;
        int total = 0;
        for (auto& c : costs) {
            low.push_back(1 + static_cast<int>(random.below(3)));
            c.resize(1 + random.below(4));
            for (double& x : c) x = random.normal();
            total += low.back() + static_cast<int>(random.below(c.size()));
        }
        const std::vector<int> budgets = cheapest_budgets(costs, low, total);
        double cost = 0;
        int sum = 0;
        for (size_t l = 0; l < layers; ++l) {
            cost += costs[l].at(static_cast<size_t>(budgets[l] - low[l]));
            sum += budgets[l];
        }
        EXPECT_EQ(sum, total);
        EXPECT_NEAR(cost, least_cost(costs, low, 0, total), 1e-12);
    }
    EXPECT_THROW(cheapest_budgets(std::vector<std::vector<double>>{{0, 0}}, std::vector<int>{1}, 5),
                 Error);
}

}  // namespace
}  // namespace muster
