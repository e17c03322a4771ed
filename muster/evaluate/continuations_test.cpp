// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/continuations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "muster/core/error.h"
#include "muster/core/thread_team.h"
#include "muster/evaluate/task_evaluation.h"
#include "muster/generate/token_losses.h"
#include "muster/model/export.h"
#include "muster/model/testing.h"

namespace muster {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryDirectory;

class Continuations : public ::testing::Test {
  protected:
    Continuations() : model_(load()) {}
    Model load() {
        testing::random_checkpoint(testing::tiny_olmoe()).write(directory_ / "run");
        export_gguf(directory_ / "run", directory_ / "model.gguf", DType::f32);
        return Model::load(directory_ / "model.gguf");
    }

    /// Minus the sum of -log p over the tokens from `first` on, every row computed from nothing.
    ContinuationScore direct(const std::vector<int32_t>& ids, int first, const char* policy) {
        RequestRouting routing(model_.config(), RoutingPolicy::parse(policy));
        KvCache cache(model_.config(), 64);
        ForwardContext context(model_, team_, 64);
        std::vector<BatchRow> rows;
        for (size_t t = 0; t + 1 < ids.size(); ++t)
            rows.push_back({ids[t], &cache, &routing, true});
        context.forward(rows);
        const auto logits = context.logits(0, static_cast<int>(rows.size()));
        ContinuationScore score;
        for (size_t t = static_cast<size_t>(first) - 1; t < rows.size(); ++t) {
            const std::span<const float> row(logits.row(static_cast<int64_t>(t)),
                                             static_cast<size_t>(logits.cols));
            score.log_probability -= negative_log_likelihood(row, ids[t + 1]);
            score.greedy &= std::max_element(row.begin(), row.end()) - row.begin() == ids[t + 1];
            ++score.tokens;
        }
        return score;
    }

    TemporaryDirectory directory_;
    Model model_;
    ThreadTeam team_{2};
};

TEST_F(Continuations, AreCutWhereTheContextEnds) {
    const Tokenizer& tokenizer = model_.tokenizer();
    const std::vector<std::string> two{" the", " at"};
    const auto e = encode_continuations(tokenizer, "so ", two, 48, "here");
    // White space at the end of the context goes to the continuations.
    EXPECT_EQ(e.first, std::vector<int>(2, static_cast<int>(tokenizer.encode("so").size())));
    EXPECT_EQ(tokenizer.decode(e.tokens[1]), "so  at");
    // `t` and `he` merge to `the`: the merged token belongs to the continuation.
    const auto merged =
        encode_continuations(tokenizer, "so t", std::vector<std::string>{"he"}, 48, "here");
    ASSERT_EQ(merged.tokens[0].size() - merged.first[0], 1u);
    EXPECT_EQ(tokenizer.token_bytes(merged.tokens[0].back()), "the");
    // The begin token alone is context enough.
    EXPECT_EQ(encode_continuations(tokenizer, "", two, 48, "here").first[0], 1);
    EXPECT_THROW(encode_continuations(tokenizer, "a", std::vector<std::string>{""}, 48, "here"),
                 Error);
}

TEST_F(Continuations, LongContextsLoseTheirBeginning) {
    const Tokenizer& tokenizer = model_.tokenizer();
    const std::vector<std::string> two{" b", " cdefg"};
    const auto whole = encode_continuations(tokenizer, "hijklmnopqrs", two, 48, "here");
    const auto cut = encode_continuations(tokenizer, "hijklmnopqrs", two, 12, "here");
    EXPECT_EQ(cut.dropped, static_cast<int>(whole.tokens[1].size()) - 13);
    EXPECT_GT(cut.dropped, 0);
    for (size_t c = 0; c < 2; ++c) {
        EXPECT_EQ(cut.tokens[c][0], 1) << "the begin token stays";
        EXPECT_EQ(cut.tokens[c].size() - cut.first[c], whole.tokens[c].size() - whole.first[c]);
        EXPECT_EQ(cut.tokens[c].back(), whole.tokens[c].back());
    }
    EXPECT_EQ(cut.tokens[1].size(), 13u);
    try {
        encode_continuations(tokenizer, "hij", two, 5, "task item 3");
        FAIL();
    } catch (const Error& e) {
        EXPECT_THAT(e.what(), HasSubstr("[task item 3]"));
    }
}

TEST_F(Continuations, ScoresAreThoseOfWholeTexts) {
    const struct {
        const char* context;
        std::vector<std::string> choices;
    } cases[] = {
        {"the other", {" day", " week of the", " d", " day"}},  // shared beginnings, one repeated
        {"the other", {" the", " then the rest of it"}},        // continues the last context
        {"the oth", {"er", "e"}},
        {"so t", {"he", "o", "hem"}},  // merges at the border
        {"", {" one", " two"}},
        {"a context of its own, alone", {" single"}},
    };
    for (const char* policy : {"model", "top-k:1", "top-p:0.5"}) {
        const RequestRouting routing(model_.config(), RoutingPolicy::parse(policy));
        KvCache cache(model_.config(), 64);
        ForwardContext context(model_, team_, 7);  // passes end anywhere
        ContinuationScorer scorer(context, cache, routing);
        for (const auto& c : cases) {
            const auto e =
                encode_continuations(model_.tokenizer(), c.context, c.choices, 48, "here");
            const ContinuationScores scores = scorer.score(e);
            int64_t tokens = 0;
            for (size_t i = 0; i < c.choices.size(); ++i) {
                const auto expected = direct(e.tokens[i], e.first[i], policy);
                EXPECT_NEAR(scores.each[i].log_probability, expected.log_probability, 1e-4)
                    << c.context << c.choices[i];
                EXPECT_EQ(scores.each[i].tokens, expected.tokens);
                EXPECT_EQ(scores.each[i].greedy, expected.greedy);
                tokens += expected.tokens;
            }
            EXPECT_EQ(scores.tokens, tokens);
            if (policy == std::string("top-k:1")) {
                EXPECT_EQ(scores.experts, std::vector<double>(3, static_cast<double>(tokens)));
            }
        }
    }
}

TEST_F(Continuations, ControllersBeginAnewWithEachContext) {
    const RequestRouting routing(model_.config(), RoutingPolicy::parse("mean:2"));
    const auto e = encode_continuations(
        model_.tokenizer(), "the theme of it, and more of it",  // over a window of 32 positions
        std::vector<std::string>{" all that there was", " is this"}, 64, "here");
    ASSERT_GT(e.tokens[0].size(), static_cast<size_t>(RequestRouting::kWindow) + 4);
    std::vector<ContinuationScores> scores;
    for (const int rows : {4, 64}) {
        KvCache cache(model_.config(), 64);
        ForwardContext context(model_, team_, rows);
        ContinuationScorer scorer(context, cache, routing);
        for (int again = 0; again < 2; ++again) scores.push_back(scorer.score(e));
    }
    // What is shared and what is not goes through the same states as the whole text does.
    for (size_t i = 0; i < 2; ++i) {
        EXPECT_EQ(scores[0].each[i].log_probability, scores[1].each[i].log_probability);
        EXPECT_EQ(scores[2].each[i].log_probability, scores[3].each[i].log_probability);
        EXPECT_NEAR(scores[0].each[i].log_probability, scores[2].each[i].log_probability, 1e-4);
        RequestRouting fresh(model_.config(), RoutingPolicy::parse("mean:2"));
        KvCache cache(model_.config(), 64);
        ForwardContext context(model_, team_, 64);
        const auto losses = token_losses(context, cache, fresh, e.tokens[i], {.window = 64});
        double sum = 0;
        for (size_t t = static_cast<size_t>(e.first[i]) - 1; t < losses.loss.size(); ++t)
            sum -= losses.loss[t];
        EXPECT_NEAR(scores[0].each[i].log_probability, sum, 1e-4);
    }
}

}  // namespace
}  // namespace muster
