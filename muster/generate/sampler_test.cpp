// SPDX-License-Identifier: Apache-2.0
#include "muster/generate/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "muster/core/error.h"

namespace muster {
namespace {

const std::vector<float> kLogits{std::log(0.1f), std::log(0.4f), std::log(0.05f), std::log(0.4f),
                                 std::log(0.05f)};

constexpr int kDraws = 20000;

std::map<int, double> shares(const SamplerOptions& options) {
    Sampler sampler(options);
    std::map<int, double> out;
    for (int i = 0; i < kDraws; ++i) out[sampler.sample(kLogits).token] += 1.0 / kDraws;
    return out;
}

SamplerOptions plain() { return {.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0, .seed = 5}; }

// Four standard deviations of a share of p in kDraws draws.
double slack(double p) { return 4 * std::sqrt(p * (1 - p) / kDraws); }

void expect_shares(const SamplerOptions& options, const std::map<int, double>& expected) {
    const auto got = shares(options);
    EXPECT_EQ(got.size(), expected.size());
    for (const auto& [token, p] : expected) {
        ASSERT_TRUE(got.contains(token)) << token;
        EXPECT_NEAR(got.at(token), p, slack(p) + 1e-9) << token;
    }
}

TEST(Sampler, DrawsFromTheDistribution) {
    expect_shares(plain(), {{0, 0.1}, {1, 0.4}, {2, 0.05}, {3, 0.4}, {4, 0.05}});
    SamplerOptions hot = plain();
    hot.temperature = 2;  // square roots
    const double sum = std::sqrt(0.1) + 2 * std::sqrt(0.4) + 2 * std::sqrt(0.05);
    expect_shares(hot, {{0, std::sqrt(0.1) / sum},
                        {1, std::sqrt(0.4) / sum},
                        {2, std::sqrt(0.05) / sum},
                        {3, std::sqrt(0.4) / sum},
                        {4, std::sqrt(0.05) / sum}});
}

TEST(Sampler, FiltersKeepTheBest) {
    SamplerOptions o = plain();
    o.top_k = 3;
    expect_shares(o, {{0, 1 / 9.0}, {1, 4 / 9.0}, {3, 4 / 9.0}});
    o.top_p = 0.85;  // of what top-k left: 0.8 / 0.9 = 0.89 reaches it
    expect_shares(o, {{1, 0.5}, {3, 0.5}});
    o = plain();
    o.top_p = 0.85;
    expect_shares(o, {{0, 1 / 9.0}, {1, 4 / 9.0}, {3, 4 / 9.0}});
    o.top_p = 1e-6;
    expect_shares(o, {{1, 1.0}});  // the tie goes to the lower id
    o = plain();
    o.min_p = 0.2;
    expect_shares(o, {{0, 1 / 9.0}, {1, 4 / 9.0}, {3, 4 / 9.0}});
    o.min_p = 1;
    expect_shares(o, {{1, 0.5}, {3, 0.5}});
    o = plain();
    o.top_k = 1;
    expect_shares(o, {{1, 1.0}});
    o.top_k = 1000;
    expect_shares(o, {{0, 0.1}, {1, 0.4}, {2, 0.05}, {3, 0.4}, {4, 0.05}});
}

TEST(Sampler, GreedyTakesTheFirstBest) {
    SamplerOptions o = plain();
    o.temperature = 0;
    Sampler sampler(o);
    const Sampled s = sampler.sample(kLogits);
    EXPECT_EQ(s.token, 1);
    EXPECT_NEAR(s.log_probability, std::log(0.4), 1e-6);
}

TEST(Sampler, IsDeterministicForASeed) {
    SamplerOptions o = plain();
    Sampler a(o), b(o);
    o.seed = 6;
    Sampler c(o);
    int differences = 0;
    for (int i = 0; i < 200; ++i) {
        const int32_t token = a.sample(kLogits).token;
        EXPECT_EQ(token, b.sample(kLogits).token);
        differences += token != c.sample(kLogits).token;
    }
    EXPECT_GT(differences, 20);
}

TEST(Sampler, NeverChoosesWhatIsImpossible) {
    Sampler sampler(plain());
    const std::vector<float> logits{-INFINITY, 0.0f, -INFINITY, 1.0f, -INFINITY};
    for (int i = 0; i < 1000; ++i) EXPECT_EQ(sampler.sample(logits).token % 2, 1);
}

TEST(Sampler, RefusesBadOptions) {
    const auto bad = [](auto change) {
        SamplerOptions o;
        change(o);
        EXPECT_THROW(Sampler{o}, Error);
    };
    bad([](SamplerOptions& o) { o.temperature = -1; });
    bad([](SamplerOptions& o) { o.temperature = NAN; });
    bad([](SamplerOptions& o) { o.top_k = -1; });
    bad([](SamplerOptions& o) { o.top_p = 0; });
    bad([](SamplerOptions& o) { o.top_p = 1.1; });
    bad([](SamplerOptions& o) { o.min_p = -0.1; });
}

}  // namespace
}  // namespace muster
