// SPDX-License-Identifier: Apache-2.0
// What a window says of a change in one layer equals a pass over the text that makes the change.
#include "muster/counterfactual/window.h"

#include <gtest/gtest.h>

#include <numeric>

#include "muster/core/thread_team.h"
#include "muster/counterfactual/weight_sharing.h"
#include "muster/generate/token_losses.h"
#include "muster/model/export.h"
#include "muster/model/testing.h"

namespace muster {
namespace {

constexpr int kTokens = 40;

Model tiny_model() {
    const testing::TemporaryDirectory directory;
    testing::random_checkpoint(testing::tiny_olmoe()).write(directory / "run");
    export_gguf(directory / "run", directory / "model.gguf", DType::f32);
    return Model::load(directory / "model.gguf");
}

std::vector<float> losses_of(ForwardContext& context, std::span<const int32_t> tokens) {
    std::vector<float> out;
    const auto logits = context.logits(0, context.wanted());
    for (int64_t t = 0; t < logits.rows; ++t)
        out.push_back(static_cast<float>(
            negative_log_likelihood({logits.row(t), static_cast<size_t>(logits.cols)},
                                    tokens[static_cast<size_t>(t) + 1])));
    return out;
}

class Windows : public ::testing::Test {
  protected:
    Windows() : tokens(testing::random_tokens(model.config(), kTokens)) {}

    /// The whole text in one pass.
    std::vector<float> brute_force(const RoutingPolicy& policy, const PassOptions& options) {
        ForwardContext context(model, team, kTokens);
        KvCache cache(model.config(), kTokens);
        RequestRouting routing(model.config(), policy);
        std::vector<BatchRow> rows;
        for (int t = 0; t + 1 < kTokens; ++t)
            rows.push_back({tokens[static_cast<size_t>(t)], &cache, &routing, true});
        context.forward(rows, options);
        return losses_of(context, tokens);
    }

    Model model = tiny_model();
    ThreadTeam team{2};
    std::vector<int32_t> tokens;
    RoutingPolicy policy = RoutingPolicy::parse("top-k:2");
};

TEST_F(Windows, ReadsAsAPassDoes) {
    Window window(model, team, kTokens, policy);
    window.read(tokens);
    const std::vector<float> expected = brute_force(policy, {});
    ASSERT_EQ(window.rows(), kTokens - 1);
    for (size_t t = 0; t < expected.size(); ++t) EXPECT_NEAR(window.losses()[t], expected[t], 1e-5);
    EXPECT_EQ(window.routes(0).activations(), 2 * (kTokens - 1));
}

/// A removed expert's score goes to all others in proportion, which the combining weights of this
/// model, renormalised over the selected, do not show.
TEST_F(Windows, TakingAnExpertAwayEqualsAPassWithoutIt) {
    policy = RoutingPolicy::parse("top-k:2,weight=renorm");
    Window window(model, team, kTokens, policy);
    window.read(tokens);
    for (int l = 0; l < model.config().num_layers(); ++l) {
        for (const int t : {0, 1, 17, kTokens - 2}) {
            for (const int32_t e : window.routes(l).token_experts(t)) {
                RoutingPolicy without = policy;
                without.ban = {{l, e}};
                RequestRouting routing(model.config(), without);
                const Branch branch{t, &routing};
                float loss = 0;
                window.branch(l, {&branch, 1}, nullptr, {&loss, 1});
                testing::Removal removal(l, t, e);
                const auto expected = brute_force(policy, {.intervention = &removal});
                EXPECT_NEAR(loss, expected[static_cast<size_t>(t)], 1e-5) << l << ' ' << t;
            }
        }
    }
}

/// Removes an expert at one position of one layer; the others share its weight.
struct Sharing final : Intervention {
    int at_layer = 0;
    int64_t position = 0;
    int expert = 0;
    bool touches(int l) const override { return l == at_layer; }
    void after_route(int, const RowInfo& rows, RouteTable& routes) override {
        RouteTable out;
        out.clear(routes.num_experts);
        for (int t = 0; t < routes.tokens(); ++t) {
            const bool here = rows.positions[static_cast<size_t>(t)] == position;
            const auto experts = routes.token_experts(t);
            const auto weights = routes.token_weights(t);
            float gone = 0, left = 0;
            for (size_t i = 0; i < experts.size(); ++i)
                (here && experts[i] == expert ? gone : left) += weights[i];
            for (size_t i = 0; i < experts.size(); ++i) {
                if (here && experts[i] == expert) continue;
                out.experts.push_back(experts[i]);
                out.weights.push_back(weights[i] + gone * weights[i] / left);
            }
            out.offsets.push_back(out.activations());
        }
        routes = out;
    }
};

TEST_F(Windows, SharingAnExpertsWeightEqualsAPassThatDoes) {
    policy = RoutingPolicy::parse("top-k:3");
    Window window(model, team, kTokens, policy);
    window.read(tokens);
    for (int l = 0; l < model.config().num_layers(); ++l) {
        std::vector<Branch> branches;
        WeightSharing touch(l);
        for (const int t : {0, 5, 17, kTokens - 2})
            for (const int32_t e : window.routes(l).token_experts(t)) {
                branches.push_back({t, nullptr});
                touch.removed.push_back(e);
            }
        std::vector<float> losses(branches.size());
        window.branch(l, branches, &touch, losses);
        for (size_t i = 0; i < branches.size(); ++i) {
            Sharing sharing;
            sharing.at_layer = l;
            sharing.position = branches[i].token;
            sharing.expert = touch.removed[i];
            const auto expected = brute_force(policy, {.intervention = &sharing});
            EXPECT_NEAR(losses[i], expected[static_cast<size_t>(branches[i].token)], 1e-5);
        }
    }
}

TEST_F(Windows, BranchesDoNotSeeEachOtherAndLeaveTheWindowAsItWas) {
    Window window(model, team, kTokens, policy);
    window.read(tokens);
    RequestRouting other(model.config(), RoutingPolicy::parse("top-k:1"));
    for (int l = 0; l < model.config().num_layers(); ++l) {
        std::vector<Branch> many;
        for (int t = 0; t + 1 < kTokens; ++t) {
            many.push_back({t, &other});
            many.push_back({t, nullptr});
        }
        std::vector<float> together(many.size());
        window.branch(l, many, nullptr, together);
        for (size_t i = 0; i < many.size(); ++i) {
            float alone = 0;
            window.branch(l, {&many[i], 1}, nullptr, {&alone, 1});
            EXPECT_NEAR(together[i], alone, 1e-5);
            if (many[i].routing != nullptr) continue;
            EXPECT_NEAR(alone, window.losses()[static_cast<size_t>(many[i].token)], 1e-5);
        }
    }
}

TEST_F(Windows, ReroutingALayerEqualsAPassThatDoes) {
    Window window(model, team, kTokens, policy);
    window.read(tokens);
    std::vector<int> all(kTokens - 1);
    std::iota(all.begin(), all.end(), 0);
    for (const char* text : {"top-k:3/2/2", "top-k:2/1/2", "top-k:2/2/6"}) {
        const RoutingPolicy other = RoutingPolicy::parse(text);
        int l = 0;
        while (other.values[static_cast<size_t>(l)] == 2) ++l;
        RequestRouting routing(model.config(), other);
        std::vector<float> losses(all.size());
        window.reroute(l, routing, all, losses);
        const std::vector<float> expected = brute_force(other, {});
        for (size_t t = 0; t < expected.size(); ++t) EXPECT_NEAR(losses[t], expected[t], 1e-5);
    }
    // The window is as it was.
    float loss = 0;
    const Branch same{20, nullptr};
    window.branch(1, {&same, 1}, nullptr, {&loss, 1});
    EXPECT_NEAR(loss, window.losses()[20], 1e-5);
}

TEST_F(Windows, PerturbationsMoveLossesInProportionAndAreTheSameAgain) {
    Window window(model, team, kTokens, policy);
    window.read(tokens);
    const std::vector<int> wanted{3, 20, kTokens - 2};
    std::vector<float> none(3), some(3), again(3), more(3);
    window.perturb(1, 0, 5, wanted, none);
    window.perturb(1, 0.01, 5, wanted, some);
    window.perturb(0, 0.5, 5, wanted, again);
    window.perturb(1, 0.01, 5, wanted, again);
    window.perturb(1, 0.02, 5, wanted, more);
    for (size_t i = 0; i < wanted.size(); ++i) {
        const double before = window.losses()[static_cast<size_t>(wanted[i])];
        EXPECT_NEAR(none[i], before, 1e-5);
        EXPECT_EQ(some[i], again[i]);
        EXPECT_NE(some[i], none[i]);
        // The second order is about noise times the first.
        const double change = some[i] - before;
        EXPECT_NEAR(more[i] - before, 2 * change, 2e-5 + 0.2 * std::abs(change));
    }
    // And branches see the unperturbed window afterwards.
    const Branch branch{20, nullptr};
    float loss = 0;
    window.branch(1, {&branch, 1}, nullptr, {&loss, 1});
    EXPECT_NEAR(loss, window.losses()[20], 1e-5);
}

}  // namespace
}  // namespace muster
