// SPDX-License-Identifier: Apache-2.0
#include "muster/counterfactual/budgets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

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

}  // namespace
}  // namespace muster
