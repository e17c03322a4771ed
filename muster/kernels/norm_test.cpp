// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "muster/core/random.h"
#include "muster/cpu/isa.h"

namespace muster {
namespace {

class Norm : public ::testing::TestWithParam<Isa> {
  protected:
    void SetUp() override { set_isa(GetParam()); }
    void TearDown() override { set_isa(available_isas().back()); }
};

std::vector<float> random_values(int64_t n, double mean, uint64_t seed) {
    Random random(seed);
    std::vector<float> x(n);
    for (float& v : x) v = static_cast<float>(mean + random.normal());
    return x;
}

// Sums of n f32 terms over at least 8 lanes and 4 chains: at most n / 8 + 12 roundings of 2^-24
// each, relative to a sum of positive terms; a few more for the rest.
double tolerance(int64_t n) { return (static_cast<double>(n) / 8 + 16) * 0x1p-24; }

TEST_P(Norm, RmsEqualsTheDefinition) {
    for (const int64_t n : {1, 5, 8, 16, 31, 64, 100, 513, 2048}) {
        const std::vector<float> x = random_values(3 * n, 0.5, n), w = random_values(n, 1, n + 1);
        std::vector<float> y(3 * n);
        rms_norm({x.data(), 3, n}, w, 1e-5f, {y.data(), 3, n});
        for (int64_t t = 0; t < 3; ++t) {
            double squares = 0;
            for (int64_t i = 0; i < n; ++i) squares += std::pow(x[t * n + i], 2.0);
            const double factor = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-5f);
            for (int64_t i = 0; i < n; ++i) {
                const double expected = x[t * n + i] * factor * w[i];
                EXPECT_NEAR(y[t * n + i], expected, tolerance(n) * std::abs(expected)) << n;
            }
        }
        std::vector<float> in_place = x;
        rms_norm({in_place.data(), 3, n}, w, 1e-5f, {in_place.data(), 3, n});
        EXPECT_EQ(in_place, y);
    }
}

TEST_P(Norm, LayerEqualsTheDefinition) {
    for (const int64_t n : {1, 5, 8, 17, 64, 100, 513}) {
        for (const bool biased : {false, true}) {
            const std::vector<float> x = random_values(n, 2, n), w = random_values(n, 1, n + 1);
            const std::vector<float> b = biased ? random_values(n, 0, n + 2) : std::vector<float>();
            std::vector<float> y(n);
            layer_norm({x.data(), 1, n}, w, b, 1e-5f, {y.data(), 1, n});
            double mean = 0, squares = 0;
            for (const float v : x) mean += v / static_cast<double>(n);
            for (const float v : x) squares += (v - mean) * (v - mean);
            const double factor = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-5f);
            for (int64_t i = 0; i < n; ++i) {
                const double expected = (x[i] - mean) * factor * w[i] + (biased ? b[i] : 0.0f);
                // The mean's error, about tolerance * |mean|, is scaled by factor * weight.
                const double slack = (std::abs(expected) + 8 * factor * std::abs(w[i])) + 1;
                EXPECT_NEAR(y[i], expected, tolerance(n) * slack) << n;
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Isas, Norm, ::testing::ValuesIn(available_isas()),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

}  // namespace
}  // namespace muster
