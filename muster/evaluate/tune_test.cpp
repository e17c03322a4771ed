// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/tune.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "muster/core/error.h"
#include "muster/core/thread_team.h"

namespace muster {
namespace {

class Tune : public ::testing::Test {
  protected:
    Tune() {
        options.steps = 2;
        options.evaluate.window = 256;
        options.evaluate.max_tokens = 600;
        for (int i = 0; i < 4; ++i) {
            Document d;
            for (int j = 0; j < 120; ++j)
                d.text += "The " + std::to_string(i * j) + " people of the country were free. ";
            documents.push_back(d);
        }
    }
    TuneResult run() { return tune_policy(model, documents, team, options); }

    Model model = Model::load(MUSTER_SOURCE_DIR "/models/default.gguf");
    ThreadTeam team{2};
    TuneOptions options;
    std::vector<Document> documents;
};

TEST_F(Tune, ChoosesTheCheapestThatBothHalvesAllow) {
    options.max_perplexity = 0.05;
    const TuneResult result = run();
    ASSERT_GT(result.tried.size(), 10u);
    const TuneCost cost = tune_cost(model, documents, options);
    EXPECT_LE(static_cast<int>(result.tried.size()) + 2, cost.policies);
    EXPECT_NEAR(static_cast<double>(cost.tokens),
                static_cast<double>(result.confirmed.policies[0].all.tokens),
                0.1 * static_cast<double>(cost.tokens));
    EXPECT_EQ(result.tried[0].policy, "model");
    const double limit = result.tried[0].loss + std::log(1.05);
    const auto chosen = std::find_if(result.tried.begin(), result.tried.end(),
                                     [&](const auto& t) { return t.policy == result.chosen; });
    ASSERT_NE(chosen, result.tried.end());
    EXPECT_TRUE(chosen->allowed);
    int cheaper = 0;
    for (const TunedPolicy& t : result.tried) {
        EXPECT_EQ(t.allowed, t.loss <= limit) << t.policy;
        cheaper += t.allowed && t.activated < chosen->activated;
    }
    EXPECT_LE(cheaper, result.rejected);
    ASSERT_EQ(result.confirmed.policies.size(), 2u);
    EXPECT_EQ(result.confirmed.policies[1].policy, result.chosen);
    EXPECT_LE(result.confirmed.policies[1].all.loss - result.confirmed.policies[0].all.loss,
              std::log(1.05));
    EXPECT_TRUE(nlohmann::json::accept(to_json(result)));
}

TEST_F(Tune, ALargeAllowanceTakesTheFewestExperts) {
    options.max_perplexity = 1e6;
    EXPECT_EQ(run().tried[1].policy, "top-k:1");
    double least = INFINITY, chosen = 0;
    const TuneResult result = run();
    for (const TunedPolicy& t : result.tried) {
        least = std::min(least, t.activated);
        if (t.policy == result.chosen) chosen = t.activated;
    }
    EXPECT_EQ(chosen, least);
}

TEST_F(Tune, BadWishesAreRefused) {
    options.max_perplexity = -1;
    EXPECT_THROW(run(), Error);
    options.max_perplexity = 0.01;
    options.steps = 99;
    EXPECT_THROW(run(), Error);
    options.steps = 2;
    documents = {{"", "short"}};
    EXPECT_THROW(run(), Error);
}

}  // namespace
}  // namespace muster
