// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/softmax.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "muster/core/random.h"
#include "muster/cpu/isa.h"

namespace muster {
namespace {

constexpr double kExp = 0x1p-21;  // relative error of an exponential (2^-22) and its argument's
                                  // rounding, for arguments up to 20 below the maximum

class Softmax : public ::testing::TestWithParam<Isa> {
  protected:
    void SetUp() override { set_isa(GetParam()); }
    void TearDown() override { set_isa(available_isas().back()); }
};

std::vector<float> random_values(int n, double size, uint64_t seed) {
    Random random(seed);
    std::vector<float> x(n);
    for (float& v : x) v = static_cast<float>(size * random.normal());
    return x;
}

TEST_P(Softmax, EqualsTheDefinition) {
    for (const int n : {1, 2, 7, 8, 15, 16, 17, 63, 257, 5000}) {
        std::vector<float> x = random_values(n, 3, n);
        double top = -INFINITY, sum = 0;
        for (const float v : x) top = std::max<double>(top, v);
        for (const float v : x) sum += std::exp(v - top);
        EXPECT_NEAR(log_sum_exp(x), top + std::log(sum), 2 * kExp) << n;
        const std::vector<float> before = x;
        softmax(x);
        for (int i = 0; i < n; ++i) {
            const double expected = std::exp(before[i] - top) / sum;
            EXPECT_NEAR(x[i], expected, 8 * kExp * expected) << n << " " << i;
        }
    }
}

TEST_P(Softmax, HoldsAtTheEdges) {
    std::vector<float> none;
    softmax(none);
    EXPECT_EQ(log_sum_exp(none), -INFINITY);
    const float inf = INFINITY;
    EXPECT_EQ(log_sum_exp(std::vector<float>{-inf, -inf}), -INFINITY);
    std::vector<float> masked{-inf, 1.0f, -inf, 1.0f, -inf};
    softmax(masked);
    EXPECT_EQ(masked, (std::vector<float>{0, 0.5f, 0, 0.5f, 0}));
    std::vector<float> far{1000.0f, 0.0f, 1000.0f, -3e38f};
    softmax(far);
    EXPECT_EQ(far, (std::vector<float>{0.5f, 0, 0.5f, 0}));
    std::vector<float> bad(20, 0.0f);
    bad[3] = NAN;
    EXPECT_TRUE(std::isnan(log_sum_exp(bad)));
    softmax(bad);
    EXPECT_TRUE(std::isnan(bad[0]));
}

INSTANTIATE_TEST_SUITE_P(Isas, Softmax, ::testing::ValuesIn(available_isas()),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

}  // namespace
}  // namespace muster
