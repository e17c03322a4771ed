// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "muster/core/random.h"

namespace muster {
namespace {

std::vector<float> random_values(int64_t n) {
    Random random(n);
    std::vector<float> x(n);
    for (float& v : x) v = static_cast<float>(random.normal());
    return x;
}

TEST(Rope, TurnsPairsByTheirAngles) {
    constexpr int kDim = 6, kHeads = 2;
    const std::vector<int32_t> positions{0, 3, 1000, -3};
    for (const bool interleaved : {false, true}) {
        const std::vector<float> x = random_values(4 * kDim * kHeads);
        std::vector<float> y = x;
        rope({y.data(), 4, kDim * kHeads}, kDim, positions, 10000.0f, interleaved);
        for (int t = 0; t < 4; ++t) {
            for (int pair = 0; pair < kHeads * kDim / 2; ++pair) {
                const int i = pair % (kDim / 2),
                          base = t * kDim * kHeads + pair / (kDim / 2) * kDim;
                const int a = base + (interleaved ? 2 * i : i);
                const int b = base + (interleaved ? 2 * i + 1 : i + kDim / 2);
                const double angle = positions[t] * std::pow(10000.0, -2.0 * i / kDim);
                const double c = std::cos(angle), s = std::sin(angle);
                // Cosine, sine, two products and a sum: four roundings of values below 2 max|x|.
                const double tolerance = 4 * 0x1p-24 * 2 * (std::abs(x[a]) + std::abs(x[b]));
                EXPECT_NEAR(y[a], x[a] * c - x[b] * s, tolerance);
                EXPECT_NEAR(y[b], x[a] * s + x[b] * c, tolerance);
            }
        }
    }
}

TEST(Rope, NegativePositionsTurnBack) {
    const std::vector<int32_t> there{5, 700}, back{-5, -700};
    for (const bool interleaved : {false, true}) {
        const std::vector<float> x = random_values(2 * 16);
        std::vector<float> y = x;
        rope({y.data(), 2, 16}, 8, there, 500.0f, interleaved);
        rope({y.data(), 2, 16}, 8, back, 500.0f, interleaved);
        for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], x[i], 1e-6);
    }
}

TEST(Rope, TableServesStretchesOfRows) {
    const std::vector<int32_t> positions{4, 9, 2};
    std::vector<float> x = random_values(3 * 8), y = x;
    RopeTable table;
    table.fill(4, positions, 100.0f);
    rope({x.data(), 3, 8}, 4, positions, 100.0f, false);
    rope({y.data(), 1, 8}, table, 0, false);
    rope({y.data() + 8, 2, 8}, table, 1, false);
    EXPECT_EQ(x, y);
}

}  // namespace
}  // namespace muster
