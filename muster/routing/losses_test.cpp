// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/losses.h"

#include <gmock/gmock.h>

#include "muster/routing/testing.h"

namespace muster {
namespace {

using namespace routing_testing;

struct Case {
    Logits logits;
    RouteTable routes;
};

Case make_case(int tokens, int experts, const char* policy, uint64_t seed) {
    Case c{random_logits(tokens, experts, seed), {}};
    c.routes = run(c.logits, resolved(policy, spec_of(experts))).table;
    return c;
}

/// The definitions, straight: P in double, then one line per loss.
RouterLosses reference(const Case& c) {
    const int T = c.logits.tokens, N = c.logits.experts;
    RouterLosses losses;
    std::vector<double> f(N), sum(N);
    for (const int e : c.routes.experts) f[e] += 1.0 / T;
    for (int t = 0; t < T; ++t) {
        double total = 0;
        for (const float x : c.logits.row(t)) total += std::exp(static_cast<double>(x));
        losses.z += std::log(total) * std::log(total) / T;
        for (int e = 0; e < N; ++e) {
            const double p = std::exp(static_cast<double>(c.logits.row(t)[e])) / total;
            sum[e] += p;
            losses.entropy -= p * std::log(p) / T;
        }
    }
    const double mean = static_cast<double>(T) / N;
    for (int e = 0; e < N; ++e) {
        losses.balance += N * f[e] * sum[e] / T;
        losses.importance += (sum[e] - mean) * (sum[e] - mean) / N / (mean * mean);
    }
    return losses;
}

constexpr RouterLossWeights kEach[] = {
    {.balance = 1},
    {.importance = 1},
    {.z = 1},
    {.entropy = 1},
    {.balance = 0.01f, .importance = 0.3f, .z = 0.001f, .entropy = -2}};

TEST(RouterLosses, ValuesFollowTheirDefinitions) {
    for (const char* policy : {"top-k:1", "top-k:2", "top-p:0.5"}) {
        for (const int tokens : {1, 2, 7, 40}) {
            const Case c = make_case(tokens, 6, policy, tokens);
            const RouterLosses expected = reference(c);
            for (const RouterLossWeights& w : kEach) {
                const RouterLosses losses = router_losses(c.logits.view(), c.routes, w);
                EXPECT_NEAR(losses.balance, expected.balance, 1e-10);
                EXPECT_NEAR(losses.importance, expected.importance, 1e-10);
                EXPECT_NEAR(losses.z, expected.z, 1e-10);
                EXPECT_NEAR(losses.entropy, expected.entropy, 1e-10);
                EXPECT_NEAR(losses.total,
                            w.balance * losses.balance + w.importance * losses.importance +
                                w.z * losses.z + w.entropy * losses.entropy,
                            1e-12);
            }
        }
    }
}

TEST(RouterLosses, UniformRoutingGivesTheKnownMinima) {
    Logits logits{4, 4, std::vector<float>(16, 0.0f)};
    RouteTable routes;  // token t -> experts t and t + 1: f_e = 2/4, their sum k = 2
    routes.clear(4);
    for (int t = 0; t < 4; ++t) {
        routes.experts.insert(routes.experts.end(), {t, (t + 1) % 4});
        routes.offsets.push_back(routes.activations());
    }
    const RouterLosses losses = router_losses(logits.view(), routes, {});
    EXPECT_NEAR(losses.balance, 2, 1e-12);
    EXPECT_NEAR(losses.importance, 0, 1e-12);
    EXPECT_NEAR(losses.entropy, std::log(4.0), 1e-12);
    EXPECT_NEAR(losses.z, std::log(4.0) * std::log(4.0), 1e-12);
}

// Central differences over steps that floats hold exactly (logits are rounded to 2^-12 and the step
// is 2^-8): their error is h^2 / 6 times a third derivative of order 1, that is about 1e-5; the
// gradient itself is stored as a float.
TEST(RouterLosses, GradientsMatchFiniteDifferences) {
    constexpr float kStep = 0x1p-8f;
    for (const int experts : {1, 2, 5, 9}) {
        Case c = make_case(5, experts, "top-p:0.6", 31 + experts);
        for (float& x : c.logits.data) x = std::round(x * 4096) / 4096;
        for (const RouterLossWeights& w : kEach) {
            std::vector<float> gradient(c.logits.data.size(), 1.0f);  // it is added to
            router_losses(c.logits.view(), c.routes, w, {gradient.data(), 5, experts});
            for (size_t i = 0; i < gradient.size(); ++i) {
                const float x = c.logits.data[i];
                c.logits.data[i] = x + kStep;
                const double above = router_losses(c.logits.view(), c.routes, w).total;
                c.logits.data[i] = x - kStep;
                const double below = router_losses(c.logits.view(), c.routes, w).total;
                c.logits.data[i] = x;
                const double expected = (above - below) / (2 * kStep);
                EXPECT_NEAR(gradient[i] - 1.0, expected, 3e-5 * std::max(1.0, std::abs(expected)))
                    << experts << " experts, logit " << i;
            }
        }
    }
}

TEST(RouterLosses, NoTokensGiveZeros) {
    RouteTable routes;
    routes.clear(3);
    const RouterLosses losses = router_losses({nullptr, 0, 3}, routes, {1, 1, 1, 1});
    EXPECT_EQ(losses.total, 0);
    EXPECT_EQ(losses.balance + losses.importance + losses.z + losses.entropy, 0);
}

TEST(RouterLosses, LargeLogitsStayFinite) {
    Logits logits{1, 3, {1e4f, -1e4f, 9999}};
    const RouteTable routes = run(logits, resolved("top-k:1", spec_of(3))).table;
    std::vector<float> gradient(3);
    const RouterLosses losses =
        router_losses(logits.view(), routes, {1, 1, 1, 1}, {gradient.data(), 1, 3});
    EXPECT_TRUE(std::isfinite(losses.total));
    for (const float g : gradient) EXPECT_TRUE(std::isfinite(g));
}

}  // namespace
}  // namespace muster
