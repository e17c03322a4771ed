// SPDX-License-Identifier: Apache-2.0
#include "muster/counterfactual/misrouting.h"

#include <gtest/gtest.h>

#include <optional>

#include "muster/core/error.h"
#include "muster/core/thread_team.h"
#include "muster/model/export.h"
#include "muster/model/testing.h"

namespace muster {
namespace {

class MisroutingTest : public ::testing::Test {
  protected:
    MisroutingTest() {
        const testing::TemporaryDirectory directory;
        testing::random_checkpoint(testing::tiny_olmoe()).write(directory / "run");
        export_gguf(directory / "run", directory / "model.gguf", DType::f32);
        model.emplace(Model::load(directory / "model.gguf"));
        calibration.window = 40;
        for (uint64_t w = 0; w < 4; ++w)
            windows.push_back(testing::random_tokens(model->config(), 40, w + 1));
    }
    std::vector<MisroutingLayer> run(int k) {
        calibration.experts_per_token = k;
        ThreadTeam team(2);
        return analyse_misrouting(*model, team, windows, calibration, options);
    }
    std::optional<Model> model;
    CalibrationOptions calibration;
    MisroutingOptions options;
    std::vector<std::vector<int32_t>> windows;
};

/// The weights are random: a drawn route is as good as the router's.
TEST_F(MisroutingTest, RandomRoutersAreNoBetterThanDraws) {
    options.least_gain = 0;
    const auto layers = run(2);
    ASSERT_EQ(layers.size(), model->config().layers.size());
    for (const MisroutingLayer& layer : layers) {
        EXPECT_GT(layer.hard.tokens, 0);
        EXPECT_GT(layer.hard.any_better.mean, layer.hard.better_share.mean);
        EXPECT_GT(layer.hard.better_share.mean, 0.1);
        EXPECT_LT(layer.hard.better_share.mean, 0.9);
        EXPECT_GT(layer.hard.best_gain.mean, 0);
    }
}

/// More draws find better ones more often, and save more.
TEST_F(MisroutingTest, MoreDrawsFindMore) {
    options.least_gain = 0;
    options.alternatives = 1;
    const auto one = run(2);
    options.alternatives = 16;
    const auto many = run(2);
    for (size_t l = 0; l < one.size(); ++l) {
        EXPECT_EQ(one[l].hard.any_better.mean, one[l].hard.better_share.mean);
        EXPECT_GT(many[l].hard.any_better.mean, one[l].hard.any_better.mean);
        EXPECT_GT(many[l].hard.best_gain.mean, one[l].hard.best_gain.mean);
    }
    options.least_gain = 100;  // nats, which no route of this model saves
    EXPECT_EQ(run(2)[0].hard.any_better.mean, 0);
}

TEST_F(MisroutingTest, IsTheSameAgainAndRefusesNothingToDraw) {
    EXPECT_EQ(run(2)[0].hard.best_gain.mean, run(2)[0].hard.best_gain.mean);
    options.alternatives = 0;
    EXPECT_THROW(run(2), Error);
}

}  // namespace
}  // namespace muster
