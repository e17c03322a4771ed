// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/speed.h"

#include <gtest/gtest.h>

namespace muster {
namespace {

SpeedResult result(double experts, double seconds) {
    SpeedResult r;
    r.experts = experts;
    r.decode.median = 1 / seconds;
    return r;
}

TEST(DecodeCost, IsTheLineThroughThePolicies) {
    const auto cost = decode_cost({result(1, 0.03), result(3, 0.05), result(6, 0.08)});
    ASSERT_TRUE(cost.has_value());
    EXPECT_NEAR(cost->fixed_seconds, 0.02, 1e-12);
    EXPECT_NEAR(cost->expert_seconds, 0.01, 1e-12);
    EXPECT_NEAR(cost->worst_deviation, 0, 1e-12);
    // A bend: the line 5 / 6 + 1.5 x misses the first by a sixth and the second by a third of 2.
    const auto bent = decode_cost({result(0, 1), result(1, 2), result(2, 4)});
    EXPECT_NEAR(bent->expert_seconds, 1.5, 1e-12);
    EXPECT_NEAR(bent->worst_deviation, 1.0 / 6, 1e-12);
}

TEST(DecodeCost, NeedsDifferentNumbersOfExperts) {
    EXPECT_FALSE(decode_cost({}).has_value());
    EXPECT_FALSE(decode_cost({result(2, 0.1)}).has_value());
    EXPECT_FALSE(decode_cost({result(2, 0.1), result(2, 0.2)}).has_value());
}

}  // namespace
}  // namespace muster
