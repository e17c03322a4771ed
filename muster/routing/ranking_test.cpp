// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <limits>

#include "muster/routing/selection.h"
#include "muster/routing/testing.h"

namespace muster {
namespace {

using namespace routing_testing;

std::vector<int> best(std::span<const float> keys, int count) {
    std::vector<int32_t> order(keys.size());
    best_first(keys, count, order.data());
    return {order.begin(), order.begin() + count};
}

TEST(BestFirst, EqualsAStableSortForEverySizeAndCount) {
    for (const int n : {1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 64, 65, 128, 255, 256, 257, 512, 1000}) {
        for (const bool coarse : {false, true}) {
            const Logits keys = random_logits(1, n, 17 * n + coarse, coarse);
            std::vector<int> expected = ranking(keys.row(0));
            for (const int count : {n, n / 2, 33, 32, 9, 8, 5, 4, 3, 2, 1}) {
                if (count < 1 || count > n) continue;
                expected.resize(count);
                EXPECT_EQ(best(keys.row(0), count), expected) << n << " " << count;
                expected = ranking(keys.row(0));
            }
        }
    }
}

TEST(BestFirst, TiesGoToTheLowerIndex) {
    for (const int n : {1, 6, 64, 300, 700}) {
        const std::vector<float> keys(n, 0.25f);
        for (int count = 1; count <= std::min(n, 40); ++count) {
            std::vector<int> expected(count);
            std::iota(expected.begin(), expected.end(), 0);
            EXPECT_EQ(best(keys, count), expected);
        }
    }
}

TEST(BestFirst, RanksMinusInfinityLast) {
    const float out = -std::numeric_limits<float>::infinity();
    for (const int n : {5, 64, 400}) {
        std::vector<float> keys(n, out);
        keys[n - 1] = -1;
        keys[n - 3] = -2;
        EXPECT_THAT(best(keys, 3), testing::ElementsAre(n - 1, n - 3, 0));
    }
    const std::vector<float> all(9, out);
    EXPECT_THAT(best(all, 2), testing::ElementsAre(0, 1));
}

TEST(BestFirst, NegativeZeroTiesWithZero) {
    const std::vector<float> keys{-0.0f, 0.0f, -0.0f};
    EXPECT_THAT(best(keys, 3), testing::ElementsAre(0, 1, 2));
}

}  // namespace
}  // namespace muster
