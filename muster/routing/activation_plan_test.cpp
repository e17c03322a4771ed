// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/activation_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <set>

#include "muster/core/error.h"
#include "muster/core/test_directory.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// Layers of 4 experts with budgets 3, 1, 2 around a dense one, k = 2.
ActivationPlan sample() {
    ActivationPlan plan;
    plan.model = 0xfedcba9876543210;
    plan.text = 7;
    plan.experts_per_token = 2;
    plan.settings = R"({"draws":8})";
    for (const int budget : {3, 0, 1, 2}) {
        LayerEvidence& layer = plan.layers.emplace_back();
        layer.budget = budget;
        if (budget == 0) continue;
        layer.contrast = {1.5, 1.25, std::numeric_limits<double>::infinity()};
        for (int e = 0; e < 4; ++e)
            layer.experts.push_back({{0.25 * e - 0.25, -1, 1}, e == 3 ? 0 : 5, 1.5 + e, e == 2});
    }
    return plan;
}

/// The same with evidence of one expert in one context.
ActivationPlan with_cluster() {
    ActivationPlan plan = sample();
    plan.clusters.push_back({1,
                             {{1, 0, 0, 0}, {}, {1, 0, 0, 0}, {1, 0, 0, 0}},
                             {{4.25, 9, 9, 9}, {}, {0, 0, 0, 0}, {0, 0, 0, 0}},
                             {{1, 0, 0, 0}, {}, {0, 0, 0, 0}, {0, 0, 0, 0}}});
    return plan;
}

const std::vector<int> kExperts{4, 1, 4, 4};

TEST(ActivationPlan, SurvivesItsFile) {
    const TemporaryDirectory directory;
    ActivationPlan plan = sample();
    plan.clusters.push_back({3,
                             {{0.5, 0.5, 0, 0}, {}, {0, 0, 0, 1}, {0, 1, 0, 0}},
                             {{1, 2, 3, 4}, {}, {5, 6, 7, 8}, {0, 0, 0, 0}},
                             {{1, 0, 1, 1}, {}, {1, 1, 1, 1}, {0, 0, 0, 0}}});
    write_plan(directory / "plan.json", plan);
    const ActivationPlan read = read_plan(directory / "plan.json");
    EXPECT_EQ(read.to_json(), plan.to_json());
    EXPECT_EQ(read.model, plan.model);
    EXPECT_EQ(read.layers[0].contrast.high, std::numeric_limits<double>::infinity());
    EXPECT_TRUE(read.layers[0].experts[2].dormant);
    EXPECT_EQ(read.clusters[0].impact[2][3], 8);
    read.check(kExperts);
}

TEST(ActivationPlan, DamagedTextsAreRefused) {
    const std::string text = sample().to_json();
    EXPECT_NO_THROW(ActivationPlan::from_json(text, "x"));
    for (size_t n = 0; n + 2 < text.size(); n += 7)
        EXPECT_THROW(ActivationPlan::from_json(text.substr(0, n), "x"), Error) << n;
    for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
             {"muster-activation-plan", "other"},
             {"\"version\":1", "\"version\":2"},
             {"fedcba9876543210", "fedcba98765432"},
             {"fedcba9876543210", "xedcba9876543210"},
             {"\"budget\":3", "\"budget\":\"3\""},
             {"\"budget\":3", "\"budget\":1e300"},
             {"\"tokens\":5", "\"tokens\":0.5"},
             {"\"layers\":[", "\"layers\":7,\"x\":["}}) {
        std::string damaged = text;
        damaged.replace(damaged.find(from), from.size(), to);
        EXPECT_THROW(ActivationPlan::from_json(damaged, "x"), Error) << to;
    }
    const auto says = [&](const std::string& from, const std::string& to) -> std::string {
        std::string damaged = text;
        damaged.replace(damaged.find(from), from.size(), to);
        try {
            ActivationPlan::from_json(damaged, "x");
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    };
    EXPECT_THAT(says("\"version\":1", "\"version\":2"), HasSubstr("(its version is 2, not 1)"));
    EXPECT_THAT(says("\"tokens\":5", "\"tokens\":0.5"), HasSubstr("(0.5 is no whole number)"));
    EXPECT_THAT(says("\"tokens\":5", "\"tokens\":[]"), HasSubstr("(array is no whole number)"));
    EXPECT_THAT(says("\"lambda\"", "\"lambd\""), HasSubstr("(key 'lambda' not found)"));
    EXPECT_THAT(says("{", "["), HasSubstr("(no JSON from byte "));
    // So deep that whoever goes down it leaves the stack.
    std::string deep = text;
    const std::string nested = std::string(2'000'000, '[') + std::string(2'000'000, ']');
    deep.replace(deep.find("{\"draws\":8}"), 11, "{\"draws\":" + nested + "}");
    EXPECT_THROW(ActivationPlan::from_json(deep, "x"), Error);
}

std::string refusal(const ActivationPlan& plan) {
    try {
        plan.check(kExperts);
    } catch (const Error& e) {
        return e.what();
    }
    return "";
}

TEST(ActivationPlan, ChecksThatItFitsAndSumsToTheBaseline) {
    EXPECT_EQ(refusal(sample()), "");
    ActivationPlan plan = sample();
    plan.layers[0].budget = 2;
    EXPECT_THAT(refusal(plan), HasSubstr("sum to 5, expected 6"));
    plan = sample();
    plan.layers[0].budget = 5;
    EXPECT_THAT(refusal(plan), HasSubstr("layer 0 with a budget of 5, expected 1 to 4"));
    plan = sample();
    plan.layers[2].experts.pop_back();
    EXPECT_THAT(refusal(plan), HasSubstr("layer 2 with 3 experts, expected 4"));
    plan = sample();
    plan.layers.pop_back();
    EXPECT_THAT(refusal(plan), HasSubstr("3 layers, expected 4"));
    plan = sample();
    plan.lambda = -1;
    EXPECT_THAT(refusal(plan), HasSubstr("lambda"));
    plan = sample();
    plan.layers[0].experts[1].impact.mean = 1e308;
    EXPECT_THAT(refusal(plan), HasSubstr("impact"));
    plan = sample();
    plan.clusters.push_back({1, {{1}}, {{1}}, {{1}}});
    EXPECT_THAT(refusal(plan), HasSubstr("context cluster"));
    plan = with_cluster();
    EXPECT_EQ(refusal(plan), "");
    plan.clusters[0].centre[0][1] = 1.5;
    EXPECT_THAT(refusal(plan), HasSubstr("context cluster"));
}

TEST(ActivationPlan, BudgetsOfTheControlsKeepTheTotal) {
    const ActivationPlan plan = sample();
    EXPECT_THAT(plan.budgets(PlanUse::both, kExperts), ElementsAre(3, 0, 1, 2));
    EXPECT_THAT(plan.budgets(PlanUse::global, kExperts), ElementsAre(3, 0, 1, 2));
    EXPECT_THAT(plan.budgets(PlanUse::layers, kExperts), ElementsAre(3, 0, 1, 2));
    EXPECT_THAT(plan.budgets(PlanUse::experts, kExperts), ElementsAre(2, 0, 2, 2));
    EXPECT_THAT(plan.budgets(PlanUse::random_experts, kExperts), ElementsAre(2, 0, 2, 2));
    for (const PlanUse use : {PlanUse::random_layers, PlanUse::random}) {
        std::vector<int> dealt = plan.budgets(use, kExperts);
        EXPECT_EQ(dealt[1], 0);
        std::sort(dealt.begin(), dealt.end());
        EXPECT_THAT(dealt, ElementsAre(0, 1, 2, 3));
        std::set<std::vector<int>> deals;
        for (int deal = 0; deal < 20; ++deal) deals.insert(plan.budgets(use, kExperts, deal));
        EXPECT_EQ(deals.size(), 6u) << "all orders of three budgets";
        // Only the third layer has room for 3, only it and the first for 2.
        EXPECT_THAT(plan.budgets(use, std::vector<int>{2, 1, 3, 1}), ElementsAre(2, 0, 3, 1));
    }
}

TEST(ActivationPlan, BoostsAreNormalisedOverWhatIsKnown) {
    ActivationPlan plan = sample();
    EXPECT_THAT(plan.boosts(0, PlanUse::both, 0.5), ElementsAre(0, 0.25f, 0.5f, 0));
    EXPECT_THAT(plan.boosts(0, PlanUse::layers, 0.5), IsEmpty());
    std::vector<float> dealt = plan.boosts(0, PlanUse::random, 0.5);
    std::sort(dealt.begin(), dealt.end());
    EXPECT_THAT(dealt, ElementsAre(0, 0, 0.25f, 0.5f));
    for (ExpertEvidence& e : plan.layers[0].experts) e.impact.mean = 3;
    EXPECT_THAT(plan.boosts(0, PlanUse::both, 0.5), ElementsAre(0, 0, 0, 0));
    for (ExpertEvidence& e : plan.layers[0].experts) e.tokens = 0;
    EXPECT_THAT(plan.boosts(0, PlanUse::both, 0.5), ElementsAre(0, 0, 0, 0));
}

TEST(ActivationPlan, AClusterSpeaksWhereItHasEvidence) {
    const ActivationPlan plan = with_cluster();
    // Impacts of all contexts: -0.25, 0, 0.25, and one unknown. The cluster has one token with 4.25
    // for the first: (4.25 - 8 * 0.25) / 9 = 0.25.
    EXPECT_THAT(plan.boosts(0, PlanUse::both, 1, 0), ElementsAre(1, 0, 1, 0));
}

}  // namespace
}  // namespace muster
