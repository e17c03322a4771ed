// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cmath>
#include <vector>

#include "muster/core/buffer.h"
#include "muster/core/dtype.h"
#include "muster/core/error.h"
#include "muster/core/random.h"
#include "muster/core/stats.h"

namespace muster {
namespace {

TEST(DType, SizesAndNames) {
    EXPECT_EQ(dtype_bytes(DType::q8_0, 64), 68);
    EXPECT_EQ(dtype_bytes(DType::bf16, 3), 6);
    EXPECT_EQ(parse_dtype("Q8_0"), DType::q8_0);
    EXPECT_THAT([] { parse_dtype("q9"); },
                testing::ThrowsMessage<Error>(testing::HasSubstr("f32, f16, bf16, q8_0")));
}

TEST(Random, StateIsAllOfIt) {
    Random a(7);
    for (int i = 0; i < 10; ++i) a();
    Random b(0);
    b.set_state(a.state());
    for (int i = 0; i < 10; ++i) EXPECT_EQ(a(), b());
    EXPECT_NE(Random(1)(), Random(2)());
}

TEST(Random, MomentsAreRight) {
    Random random(3);
    constexpr int kDraws = 200000;
    double uniform = 0, normal = 0, square = 0;
    std::vector<int> counts(5);
    for (int i = 0; i < kDraws; ++i) {
        uniform += random.uniform();
        const double x = random.normal();
        normal += x;
        square += x * x;
        ++counts[random.below(5)];
    }
    // Five standard errors of each mean.
    EXPECT_NEAR(uniform / kDraws, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
    EXPECT_NEAR(normal / kDraws, 0, 5 / std::sqrt(kDraws));
    EXPECT_NEAR(square / kDraws, 1, 5 * std::sqrt(2.0 / kDraws));
    for (const int n : counts) EXPECT_NEAR(n, kDraws / 5, 5 * std::sqrt(kDraws * 0.2 * 0.8));
}

TEST(Stats, Quantiles) {
    const std::vector<double> values{3, 1, 2, 4};
    EXPECT_DOUBLE_EQ(quantile(values, 0), 1);
    EXPECT_DOUBLE_EQ(quantile(values, 1), 4);
    EXPECT_DOUBLE_EQ(quantile(values, 0.5), 2.5);
}

// The interval of a mean of normal values is about mean +- 1.96 / sqrt(n).
TEST(Stats, BootstrapIntervalOfAMean) {
    Random random(5);
    std::vector<double> values(400), weights(400, 1.0);
    for (double& v : values) v = 10 + random.normal();
    const Interval i = bootstrap_ratio(values, weights);
    EXPECT_NEAR(i.mean, 10, 0.2);
    EXPECT_NEAR((i.high - i.low) / 2, 1.96 / 20, 0.02);
    const Interval again = bootstrap_ratio(values, weights);
    EXPECT_EQ(i.low, again.low);
}

TEST(Buffer, GrowsAlignedAndKeepsItsSize) {
    Buffer<float> buffer(3);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0u);
    float* before = buffer.data();
    buffer.reserve(2);
    EXPECT_EQ(buffer.data(), before);
    buffer.reserve(1000);
    EXPECT_GE(buffer.capacity(), 1000u);
}

TEST(Bootstrap, OfAnyStatisticAgreesWithThatOfRatios) {
    const std::vector<double> values{1, 5, 2, 8, 3, 9}, weights{1, 2, 1, 3, 2, 2};
    const Interval ratio = bootstrap_ratio(values, weights);
    const Interval any = bootstrap(values.size(), [&](std::span<const int> counts) {
        double v = 0, w = 0;
        for (size_t i = 0; i < counts.size(); ++i)
            v += counts[i] * values[i], w += counts[i] * weights[i];
        return v / w;
    });
    EXPECT_DOUBLE_EQ(any.mean, ratio.mean);
    EXPECT_NEAR(any.low, ratio.low, 1e-9);
    EXPECT_NEAR(any.high, ratio.high, 1e-9);
    EXPECT_TRUE(std::isinf(bootstrap(1, [](std::span<const int>) { return 1.0; }).high));
    EXPECT_TRUE(std::isinf(bootstrap(3, [](std::span<const int>) { return NAN; }).high));
}

TEST(Correlation, PearsonAndRanks) {
    const std::vector<double> a{1, 2, 3, 4}, b{2, 4, 6, 8}, c{4, 3, 2, 1}, d{1, 1, 1, 1};
    EXPECT_NEAR(correlation(a, b), 1, 1e-12);
    EXPECT_NEAR(correlation(a, c), -1, 1e-12);
    EXPECT_TRUE(std::isnan(correlation(a, d)));
    EXPECT_TRUE(std::isnan(correlation(std::vector<double>{1, 2}, std::vector<double>{1, 2})));
    EXPECT_EQ(ranks(std::vector<double>{10, 3, 10, -1}), (std::vector<double>{3.5, 2, 3.5, 1}));
    EXPECT_TRUE(ranks({}).empty());
}

}  // namespace
}  // namespace muster
