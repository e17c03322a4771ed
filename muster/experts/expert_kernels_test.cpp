// SPDX-License-Identifier: Apache-2.0
#include "muster/experts/expert_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "muster/core/random.h"
#include "muster/experts/moe_reference.h"

namespace muster::testing {
namespace {

constexpr double kUnit = 0x1p-24;  // of an f32 rounding
const Activation kAll[] = {Activation::relu, Activation::gelu, Activation::silu};

std::vector<float> inputs() {
    std::vector<float> x;
    for (int i = -14 * 64; i <= 14 * 64; ++i) x.push_back(static_cast<float>(i) / 64);
    for (float tiny : {1e-3f, 1e-6f, 1e-20f}) {
        x.push_back(tiny);
        x.push_back(-tiny);
    }
    return x;
}

// Both fast activations multiply x by e^-a / (...) with a = x or x^2 / 2, correct to about 8
// roundings, except that rounding a moves e^-a by |a| roundings (x^2 costs one, the clamped
// reduction half a one). Below e^-87 they only promise to be as tiny.
double tolerance(Activation a, double x, double value) {
    if (a == Activation::relu) return 0;
    const double exponent = a == Activation::gelu ? x * x / 2 : std::fabs(x);
    return (8 + 2 * exponent) * kUnit * std::fabs(value) + 1e-36;
}

TEST(ExpertKernels, ValuesMatchDoubles) {
    const std::vector<float> x = inputs();
    const auto n = static_cast<int64_t>(x.size());
    std::vector<float> h(x.size()), up(x.size(), 3.0f);
    for (Isa isa : available_isas()) {
        for (Activation a : kAll) {
            const auto forward = expert_kernels(isa).forward[static_cast<size_t>(a)];
            forward({nullptr, x.data(), h.data(), n});
            for (size_t i = 0; i < x.size(); ++i) {
                const double exact = activate(a, static_cast<double>(x[i]));
                EXPECT_NEAR(h[i], exact, tolerance(a, x[i], exact))
                    << isa_name(isa) << " " << activation_name(a) << " of " << x[i];
            }
            forward({x.data(), up.data(), h.data(), n});
            for (size_t i = 0; i < x.size(); ++i) {
                const double exact = 3 * activate(a, static_cast<double>(x[i]));
                EXPECT_NEAR(h[i], exact, tolerance(a, x[i], exact) + 3 * kUnit * std::fabs(exact))
                    << isa_name(isa) << " gated " << activation_name(a) << " of " << x[i];
            }
        }
    }
}

// Through both clamps; the factor up + 1 costs a rounding of up to 8.
TEST(ExpertKernels, SwigluOaiMatchesDoubles) {
    std::vector<float> gate, up, h;
    for (const float g : inputs()) {
        for (const float u : {-9.0f, -7.0f, -1.0f, -0.3f, 0.0f, 2.5f, 7.0f, 30.0f}) {
            gate.push_back(g);
            up.push_back(u);
        }
    }
    h.resize(gate.size());
    for (Isa isa : available_isas()) {
        const auto forward =
            expert_kernels(isa).forward[static_cast<size_t>(Activation::swiglu_oai)];
        forward({gate.data(), up.data(), h.data(), static_cast<int64_t>(gate.size())});
        for (size_t i = 0; i < gate.size(); ++i) {
            const double exact = combine(Activation::swiglu_oai, {gate[i]}, {up[i]}, {}).value;
            const double argument = 1.702 * std::min(gate[i], 7.0f);
            const double near = tolerance(Activation::silu, argument, exact);
            EXPECT_NEAR(h[i], exact, near + 4 * kUnit * std::fabs(exact))
                << isa_name(isa) << " of " << gate[i] << " and " << up[i];
        }
        const float nan = std::numeric_limits<float>::quiet_NaN();
        const float values[3] = {1.0f, nan, 1.0f}, others[3] = {nan, 1.0f, 1.0f};
        float out[3];
        forward({values, others, out, 3});
        EXPECT_TRUE(std::isnan(out[0]) && std::isnan(out[1]) && !std::isnan(out[2]));
    }
}

// Slopes add numbers of size up to 1.2, each off by some roundings of its own (and of the exponent,
// as above, but a e^-a stays below 0.4, x a e^-a below 0.8).
TEST(ExpertKernels, GradientsMatchDoubles) {
    const std::vector<float> x = inputs();
    const auto n = static_cast<int64_t>(x.size());
    const float weight = 0.75f;
    Random random(3);
    std::vector<float> up(x.size()), dh(x.size()), dgate(x.size()), dup(x.size()), h(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
        up[i] = static_cast<float>(random.normal());
        dh[i] = static_cast<float>(random.normal());
    }
    for (Isa isa : available_isas()) {
        for (Activation a : kAll) {
            const auto backward = expert_kernels(isa).backward[static_cast<size_t>(a)];
            for (bool gated : {true, false}) {
                HiddenGradientRow row;
                row.gate = gated ? x.data() : nullptr;
                row.up = gated ? up.data() : x.data();
                row.dhidden = dh.data();
                row.weight = weight;
                row.dgate = gated ? dgate.data() : nullptr;
                row.dup = dup.data();
                row.hidden = h.data();
                row.n = n;
                const double dot = backward(row);
                double exact_dot = 0, magnitude = 0;
                for (size_t i = 0; i < x.size(); ++i) {
                    const double u = gated ? up[i] : 1.0;
                    const double value = activate(a, static_cast<double>(x[i]));
                    const double slope_error = 16 * kUnit;
                    const double d = static_cast<double>(weight) * dh[i];
                    exact_dot += value * u * dh[i];
                    magnitude += std::fabs(value * u * dh[i]);
                    const double near = tolerance(a, x[i], value) + 4 * kUnit * std::fabs(value);
                    EXPECT_NEAR(h[i], weight * value * u, std::fabs(u) * near);
                    const double through = d * u * slope(a, static_cast<double>(x[i]));
                    EXPECT_NEAR(gated ? dgate[i] : dup[i], through,
                                std::fabs(d * u) * slope_error + 4 * kUnit * std::fabs(through))
                        << isa_name(isa) << " " << activation_name(a) << " at " << x[i];
                    if (!gated) continue;
                    EXPECT_NEAR(dup[i], d * value, std::fabs(d) * near);
                }
                EXPECT_NEAR(dot, exact_dot, (static_cast<double>(n) / 8 + 120) * kUnit * magnitude);
            }
        }
    }
}

TEST(ExpertKernels, PartsOfVectorsTouchNothingElse) {
    for (Isa isa : available_isas()) {
        for (int64_t n = 1; n <= 33; ++n) {
            std::vector<float> x(40, 1.0f), h(40, -5.0f);
            expert_kernels(isa).forward[2]({x.data(), x.data(), h.data(), n});
            for (int64_t i = 0; i < 40; ++i) {
                EXPECT_EQ(h[static_cast<size_t>(i)] != -5.0f, i < n) << isa_name(isa) << " " << n;
            }
        }
    }
}

TEST(ExpertKernels, ExtremesAndNan) {
    const float big = std::numeric_limits<float>::max();
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (Isa isa : available_isas()) {
        for (Activation a : kAll) {
            const float x[4] = {1e4f, -1e4f, big, nan};
            float h[4];
            expert_kernels(isa).forward[static_cast<size_t>(a)]({nullptr, x, h, 4});
            EXPECT_EQ(h[0], 1e4f) << isa_name(isa) << " " << activation_name(a);
            EXPECT_NEAR(h[1], 0, 1e-30) << isa_name(isa) << " " << activation_name(a);
            EXPECT_EQ(h[2], big) << isa_name(isa) << " " << activation_name(a);
            EXPECT_TRUE(std::isnan(h[3])) << isa_name(isa) << " " << activation_name(a);
        }
    }
}

}  // namespace
}  // namespace muster::testing
