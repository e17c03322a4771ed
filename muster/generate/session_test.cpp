// SPDX-License-Identifier: Apache-2.0
#include "muster/generate/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "muster/core/error.h"
#include "muster/core/thread_team.h"
#include "muster/generate/token_losses.h"
#include "muster/model/export.h"
#include "muster/model/reference.h"
#include "muster/model/testing.h"

namespace muster {
namespace {

using ::testing::HasSubstr;
using testing::random_tokens;
using testing::TemporaryDirectory;

class SessionTest : public ::testing::Test {
  protected:
    SessionTest() : checkpoint_(testing::random_checkpoint(testing::tiny_olmoe())) {
        checkpoint_.write(directory_ / "run");
        export_gguf(directory_ / "run", directory_ / "model.gguf", DType::f32);
        model_ = std::make_unique<Model>(Model::load(directory_ / "model.gguf"));
    }
    static GenerateOptions greedy(int tokens) {
        GenerateOptions o;
        o.max_tokens = tokens;
        o.sampler.temperature = 0;
        o.ignore_end = true;
        return o;
    }
    Session session(const std::string& policy = "model", int context = 0) {
        SessionOptions o;
        o.policy = RoutingPolicy::parse(policy);
        o.context = context;
        return {*model_, team_, o};
    }

    TemporaryDirectory directory_;
    testing::Checkpoint checkpoint_;
    std::unique_ptr<Model> model_;
    ThreadTeam team_{2};
};

TEST_F(SessionTest, GreedyTextIsTheReferences) {
    const auto prompt = random_tokens(model_->config(), 10);
    std::vector<int32_t> expected = prompt;
    testing::Reference reference(checkpoint_);
    std::vector<double> losses;
    for (int i = 0; i < 8; ++i) {
        const auto logits = reference.logits(expected).back();
        const auto best = std::max_element(logits.begin(), logits.end());
        double sum = 0;
        for (const double x : logits) sum += std::exp(x - *best);
        losses.push_back(std::log(sum));
        expected.push_back(static_cast<int32_t>(best - logits.begin()));
    }
    Session s = session();
    GenerateOptions options = greedy(8);
    std::string streamed;
    std::vector<double> streamed_losses;
    options.on_token = [&](const GeneratedToken& token) {
        streamed += token.text;
        if (token.id >= 0) streamed_losses.push_back(token.loss);
        EXPECT_TRUE(token.id < 0 || token.mean_experts == 2);
        return true;
    };
    const GenerateResult result = s.generate(prompt, options);
    EXPECT_EQ(result.tokens, std::vector<int32_t>(expected.begin() + 10, expected.end()));
    EXPECT_EQ(result.stop, StopReason::max_tokens);
    EXPECT_EQ(result.text, streamed);
    EXPECT_EQ(result.text, model_->tokenizer().decode(result.tokens));
    EXPECT_EQ(result.mean_experts, 2);
    for (size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(streamed_losses[i], losses[i], 1e-4);
}

TEST_F(SessionTest, StopsWhenTheContextIsFull) {
    Session s = session("model", 16);
    const GenerateResult r = s.generate(random_tokens(model_->config(), 12), greedy(-1));
    EXPECT_EQ(r.stop, StopReason::context_full);
    EXPECT_EQ(r.tokens.size(), 5u);  // four fit the cache, the fifth needs none
    EXPECT_EQ(describe(r.stop, s.context()), "the context of 16 tokens is full");
    EXPECT_THROW(s.generate(random_tokens(model_->config(), 17), greedy(1)), Error);
    EXPECT_THROW(s.generate({}, greedy(1)), Error);
    EXPECT_THROW(s.generate(std::vector<int32_t>{1, 70000}, greedy(1)), Error);
    EXPECT_EQ(s.generate(random_tokens(model_->config(), 16), greedy(9)).tokens.size(), 1u);
}

TEST_F(SessionTest, StopsAtTheEndTokenAndWhenAsked) {
    Session s = session();
    const auto prompt = random_tokens(model_->config(), 5);
    GenerateOptions options = greedy(20);
    options.sampler.temperature = 50;  // nearly uniform: the end token comes soon
    options.sampler.top_k = 3;
    int calls = 0;
    options.on_token = [&](const GeneratedToken&) { return ++calls < 3; };
    const GenerateResult stopped = s.generate(prompt, options);
    EXPECT_EQ(stopped.stop, StopReason::callback);
    EXPECT_EQ(stopped.tokens.size(), 3u);
    options = greedy(-1);
    options.ignore_end = false;
    options.sampler = {.temperature = 100, .top_k = 0, .top_p = 1, .min_p = 0, .seed = 1};
    bool ended = false;
    for (uint64_t seed = 0; seed < 60 && !ended; ++seed) {
        options.sampler.seed = seed;
        const GenerateResult r = s.generate(prompt, options);
        ended = r.stop == StopReason::end_of_text;
        EXPECT_THAT(r.tokens, ::testing::Not(::testing::Contains(2)));
    }
    EXPECT_TRUE(ended);
}

TEST_F(SessionTest, ReusesThePrefixInItsCache) {
    const auto prompt = random_tokens(model_->config(), 20);
    Session s = session(), fresh = session();
    const GenerateResult first = s.generate(prompt, greedy(6));
    EXPECT_EQ(first.reused_tokens, 0);
    const GenerateResult again = s.generate(prompt, greedy(6));
    EXPECT_EQ(again.reused_tokens, 19);
    EXPECT_EQ(again.tokens, first.tokens);
    auto other = prompt;
    other[7] = other[7] == 50 ? 51 : 50;
    const GenerateResult changed = s.generate(other, greedy(6));
    EXPECT_EQ(changed.reused_tokens, 7);
    EXPECT_EQ(changed.tokens, fresh.generate(other, greedy(6)).tokens);
}

TEST_F(SessionTest, ControllersGoBackWithThePrefix) {
    const auto prompt = random_tokens(model_->config(), 38);
    Session s = session("mean:3");
    const GenerateResult first = s.generate(prompt, greedy(6));
    const auto state = s.routing().controller_state();
    const GenerateResult again = s.generate(prompt, greedy(6));
    EXPECT_EQ(again.reused_tokens, 32);
    EXPECT_EQ(again.tokens, first.tokens);
    EXPECT_EQ(s.routing().controller_state(), state);
}

TEST_F(SessionTest, SpeedsAreHeldOrSaidToBeOutOfReach) {
    const auto prompt = random_tokens(model_->config(), 8);
    const auto outcome = [&](const char* policy) {
        Session s = session(policy);
        const GenerateResult r = s.generate(prompt, greedy(40));
        EXPECT_TRUE(r.speed.has_value());
        return r.speed.value_or(SpeedOutcome{});
    };
    const SpeedOutcome fast = outcome("speed:1e8");
    EXPECT_EQ(fast.reach, SpeedReach::too_high);
    EXPECT_EQ(fast.experts, 1);
    EXPECT_GT(fast.expert_seconds, 0);
    EXPECT_THAT(describe(fast), HasSubstr("speed:1e+08 cannot be reached"));
    EXPECT_THAT(describe(fast), HasSubstr("with 1 experts per layer, the fewest"));
    const SpeedOutcome slow = outcome("speed:0.001");
    EXPECT_EQ(slow.reach, SpeedReach::too_low);
    EXPECT_EQ(slow.experts, 2) << "what the checkpoint was trained with";
    EXPECT_THAT(describe(slow), HasSubstr("cannot be held"));
    EXPECT_EQ(outcome("speed:0.001,max=5").experts, 5);
    EXPECT_EQ(describe(SpeedOutcome{.target = 20, .tokens_per_second = 20.9}), "");
    SpeedOutcome out{.target = 20, .tokens_per_second = 40, .experts = 2};
    EXPECT_THAT(describe(out), HasSubstr("before anything is measured"));
    out.expert_seconds = 0.01;
    EXPECT_EQ(describe(out), "speed:20 was not held: 40.0 tokens/s with 2 experts per layer");
    out.reach = SpeedReach::too_low;
    out.limit_experts = 4;
    out.limit_tokens_per_second = 30;
    EXPECT_EQ(describe(out),
              "speed:20 cannot be held: 40.0 tokens/s with 2 experts per layer; 4, the most that "
              "the policy allows, would give about 30.0");
    Session s = session("top-k:2");
    EXPECT_FALSE(s.generate(prompt, greedy(3)).speed.has_value());
    ThreadTeam team(1);
    ForwardContext context(*model_, team, 16);
    KvCache cache(model_->config(), 48);
    RequestRouting routing(model_->config(), RoutingPolicy::parse("speed:20"));
    EXPECT_THROW(token_losses(context, cache, routing, prompt), Error);
}

TEST_F(SessionTest, PromptCacheComesBackFromDisk) {
    for (const char* policy : {"top-k:2", "mean:2"}) {
        const auto prompt = random_tokens(model_->config(), 20);
        Session s = session(policy);
        const GenerateResult first = s.generate(prompt, greedy(6));
        s.save_cache(directory_ / "cache");
        Session later = session(policy);
        EXPECT_EQ(later.load_cache(directory_ / "cache"), 25);
        EXPECT_EQ(later.routing().controller_state(), s.routing().controller_state());
        const GenerateResult again = later.generate(prompt, greedy(6));
        // Controllers go back to whole windows: here to the beginning.
        EXPECT_EQ(again.reused_tokens, policy == std::string("top-k:2") ? 19 : 0);
        EXPECT_EQ(again.tokens, first.tokens);
        Session other = session("top-k:3");
        EXPECT_THROW(other.load_cache(directory_ / "cache"), Error);
    }
}

TEST_F(SessionTest, PolicyCanChangeBetweenAnswers) {
    const auto prompt = random_tokens(model_->config(), 12);
    Session s = session("top-k:2");
    EXPECT_EQ(s.generate(prompt, greedy(4)).mean_experts, 2);
    s.set_policy(RoutingPolicy::parse("top-k:1"));
    const GenerateResult one = s.generate(prompt, greedy(4));
    EXPECT_EQ(one.mean_experts, 1);
    EXPECT_EQ(one.reused_tokens, 11);
    EXPECT_THROW(s.save_cache(directory_ / "cache"), Error);
    EXPECT_THROW(s.set_policy(RoutingPolicy::parse("top-k:77")), Error);
    EXPECT_THROW(s.set_policy(RoutingPolicy::parse("expert-choice:2")), Error);
    EXPECT_EQ(s.routing().policy().to_string(), "top-k:1");
    auto other = prompt;
    other[0] = 50;  // nothing is kept, so everything is of one policy again
    s.generate(other, greedy(4));
    s.save_cache(directory_ / "cache");
}

TEST_F(SessionTest, StopStringsDoNotBelongToTheText) {
    const auto prompt = random_tokens(model_->config(), 12);
    Session s = session();
    const std::string text = s.generate(prompt, greedy(12)).text;
    ASSERT_GT(text.size(), 5u);
    GenerateOptions options = greedy(12);
    options.stop = {"never written", text.substr(3, 2)};
    std::string streamed;
    options.on_token = [&](const GeneratedToken& token) {
        streamed += token.text;
        return true;
    };
    const GenerateResult r = s.generate(prompt, options);
    EXPECT_EQ(r.stop, StopReason::stop_string);
    EXPECT_EQ(r.text, text.substr(0, text.find(text.substr(3, 2))));
    EXPECT_EQ(streamed, r.text);
}

TEST_F(SessionTest, RefusesPoliciesThatNeedWholeBatches) {
    try {
        session("expert-choice:2");
        FAIL();
    } catch (const Error& e) {
        EXPECT_THAT(e.what(), HasSubstr("whole batches"));
    }
    EXPECT_THROW(session("top-k:77"), Error);
}

TEST_F(SessionTest, TokenLossesAreTheReferences) {
    const auto tokens = random_tokens(model_->config(), 30);
    const auto logits = testing::Reference(checkpoint_).logits(tokens);
    ForwardContext context(*model_, team_, 8);
    KvCache cache(model_->config(), 48);
    RequestRouting routing(model_->config());
    const TokenLosses losses = token_losses(context, cache, routing, tokens);
    ASSERT_EQ(losses.loss.size(), 29u);
    for (size_t i = 0; i < losses.loss.size(); ++i) {
        double sum = 0;
        for (const double x : logits[i]) sum += std::exp(x);
        EXPECT_NEAR(losses.loss[i], std::log(sum) - logits[i][tokens[i + 1]], 1e-4);
    }
    EXPECT_EQ(losses.experts, std::vector<int32_t>(29 * 3, 2));
    EXPECT_TRUE(token_losses(context, cache, routing, {tokens.data(), 1}).loss.empty());
}

TEST_F(SessionTest, LongTextsAreScoredInOverlappingWindows) {
    const auto tokens = random_tokens(model_->config(), 100);
    ForwardContext context(*model_, team_, 8);
    KvCache cache(model_->config(), 20);
    RequestRouting routing(model_->config());
    LossOptions options;
    options.window = 20;
    options.stride = 12;
    const TokenLosses losses = token_losses(context, cache, routing, tokens, options);
    ASSERT_EQ(losses.loss.size(), 99u);
    // Windows start at 0, 12, 24, ...; tokens [20, 32) are scored by the second.
    testing::Reference reference(checkpoint_);
    size_t scored = 1;
    for (size_t begin = 0; scored < tokens.size(); begin += 12) {
        const size_t end = std::min<size_t>(tokens.size(), begin + 20);
        const auto logits = reference.logits(
            {tokens.begin() + static_cast<long>(begin), tokens.begin() + static_cast<long>(end)});
        for (; scored < end; ++scored) {
            const auto& row = logits[scored - 1 - begin];
            double sum = 0;
            for (const double x : row) sum += std::exp(x);
            EXPECT_NEAR(losses.loss[scored - 1], std::log(sum) - row[tokens[scored]], 1e-4)
                << scored;
        }
    }
    options.stride = 20;
    EXPECT_THROW(token_losses(context, cache, routing, tokens, options), Error);
    options = {};
    options.window = 30;
    EXPECT_THROW(token_losses(context, cache, routing, tokens, options), Error);
}

}  // namespace
}  // namespace muster
