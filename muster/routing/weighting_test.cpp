// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/weighting.h"

#include <gmock/gmock.h>

#include "muster/routing/testing.h"

namespace muster {
namespace {

using namespace routing_testing;

double sum(std::span<const float> weights) {
    return std::accumulate(weights.begin(), weights.end(), 0.0);
}

TEST(Weighting, EachRuleFollowsItsFormula) {
    const Logits logits = random_logits(100, 16, 2);
    for (const char* score : {"softmax", "sigmoid", "sqrt-softplus", "relu"}) {
        for (const char* rule : {"raw", "renorm", "softmax", "uniform"}) {
            for (const double scale : {1.0, 2.5}) {
                const auto policy = std::string("top-k:4,score=") + score + ",weight=" + rule +
                                    ",weight=scale:" + std::to_string(scale);
                const Routed routed = run(logits, resolved(policy.c_str(), spec_of(16)));
                for (int t = 0; t < 100; ++t) {
                    const auto experts = routed.table.token_experts(t);
                    double scores = 0, exps = 0;
                    for (const int e : experts) {
                        scores += routed.scores[t * 16 + e];
                        exps += std::exp(static_cast<double>(logits.row(t)[e]));
                    }
                    for (size_t i = 0; i < experts.size(); ++i) {
                        const double s = routed.scores[t * 16 + experts[i]];
                        double expected = s;
                        if (rule == std::string("renorm"))
                            expected = s / std::max(scores, 6.1035e-5);
                        if (rule == std::string("softmax"))
                            expected = std::exp(logits.row(t)[experts[i]]) / exps;
                        if (rule == std::string("uniform")) expected = 0.25;
                        EXPECT_NEAR(routed.table.token_weights(t)[i], scale * expected,
                                    1e-6 * scale * std::max(expected, 1e-3))
                            << policy;
                    }
                }
            }
        }
    }
}

TEST(Weighting, SumsAreWhatTheRulePromises) {
    const Logits logits = random_logits(200, 32, 8);
    for (const char* policy : {"top-p:0.6", "top-k:5", "relative:0.3"}) {
        for (const char* rule : {"renorm", "softmax", "uniform"}) {
            const auto text = std::string(policy) + ",weight=" + rule;
            const RouteTable table = run(logits, resolved(text.c_str(), spec_of(32))).table;
            for (int t = 0; t < 200; ++t) EXPECT_NEAR(sum(table.token_weights(t)), 1, 1e-6) << text;
        }
    }
    const RouteTable raw = run(logits, resolved("top-p:0.6", spec_of(32))).table;
    for (int t = 0; t < 200; ++t) {
        EXPECT_GE(sum(raw.token_weights(t)), 0.6 - 1e-6);
        EXPECT_LE(sum(raw.token_weights(t)), 1 + 1e-6);
    }
}

TEST(Weighting, ZeroScoresGiveTheLeastNumberAndNoNan) {
    const Logits logits{2, 4, {-1, -2, -3, -4, -1, -1, -1, -1}};
    for (const float floor : {6.1035e-5f, 0.0f}) {
        for (const char* selection : {"top-p:0.9", "top-k:2", "relative:0.5", "top-p:0.5,min=3"}) {
            for (const char* rule : {"raw", "renorm", "softmax", "uniform"}) {
                RouterSpec spec = spec_of(4);
                spec.renorm_floor = floor;
                const auto text = std::string(selection) + ",score=relu,weight=" + rule;
                const RouteTable table = run(logits, resolved(text.c_str(), spec)).table;
                for (int t = 0; t < 2; ++t) {
                    EXPECT_GE(table.token_experts(t).size(), 1u);
                    EXPECT_EQ(table.token_experts(t)[0], 0);  // all tied
                }
                for (const float w : table.weights) EXPECT_TRUE(std::isfinite(w)) << text;
            }
        }
    }
    const RouteTable one = run(logits, resolved("top-p:0.9,score=relu", spec_of(4))).table;
    EXPECT_EQ(one.token_experts(0).size(), 1u);
}

TEST(Weighting, TheFloorKeepsSmallSumsSmall) {
    RouterSpec spec = spec_of(2);
    spec.renorm_floor = 0.5f;
    const Logits logits{1, 2, {0.1f, 0.15f}};
    const RouteTable table = run(logits, resolved("top-k:2,score=relu,weight=renorm", spec)).table;
    EXPECT_FLOAT_EQ(table.weights[0], 0.3f);
    EXPECT_FLOAT_EQ(table.weights[1], 0.2f);
}

TEST(Weighting, HugeScoresStayFinite) {
    const Logits logits{1, 3, {3e38f, 3e38f, 1e-45f}};
    for (const char* rule : {"raw", "renorm", "softmax", "uniform"}) {
        const auto text = std::string("top-p:0.9,score=relu,weight=scale:100,weight=") + rule;
        for (const float w : run(logits, resolved(text.c_str(), spec_of(3))).table.weights)
            EXPECT_TRUE(std::isfinite(w)) << text;
    }
}

}  // namespace
}  // namespace muster
