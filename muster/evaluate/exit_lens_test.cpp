// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/exit_lens.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "muster/core/error.h"
#include "muster/core/thread_team.h"
#include "muster/evaluate/residual_lens.h"
#include "muster/generate/token_losses.h"
#include "muster/model/export.h"
#include "muster/model/forward.h"
#include "muster/model/testing.h"

namespace muster {
namespace {

using testing::TemporaryDirectory;

Model tiny_model(const TemporaryDirectory& directory, const ModelConfig& config) {
    testing::random_checkpoint(config).write(directory / "run");
    export_gguf(directory / "run", directory / "model.gguf", DType::f32);
    return Model::load(directory / "model.gguf");
}

/// All tokens of a text seen at once: [rows][L].
struct Seen {
    std::vector<std::vector<int32_t>> likeliest, experts;
};

Seen look(const Model& model, Executor& executor, const std::vector<int32_t>& tokens) {
    KvCache cache(model.config(), 64);
    RequestRouting routing(model.config());
    ForwardContext context(model, executor, 64);
    ResidualLens lens(model, executor, Compute::f32);
    std::vector<BatchRow> rows;
    for (size_t t = 0; t + 1 < tokens.size(); ++t)
        rows.push_back({tokens[t], &cache, &routing, true});
    context.forward(rows, {.residual = &lens});
    Seen out;
    for (size_t t = 0; t < rows.size(); ++t) {
        out.likeliest.emplace_back();
        for (int l = 0; l < model.config().num_layers(); ++l)
            out.likeliest.back().push_back(lens.likeliest(l)[t]);
        const auto e = context.experts_of(static_cast<int>(t));
        out.experts.emplace_back(e.begin(), e.end());
    }
    // What the last layer says is what the model writes.
    const auto logits = context.logits(0, static_cast<int>(rows.size()));
    for (size_t t = 0; t < rows.size(); ++t) {
        const float* row = logits.row(static_cast<int64_t>(t));
        EXPECT_EQ(out.likeliest[t].back(), std::max_element(row, row + model.config().vocab) - row);
    }
    return out;
}

class ExitLens : public ::testing::TestWithParam<ModelConfig> {};

TEST_P(ExitLens, CountsWhatIsSpentAfterATokenHasSettled) {
    const TemporaryDirectory directory;
    const Model model = tiny_model(directory, GetParam());
    ThreadTeam team(2);
    const std::string text = "the other thing, then the rest of it";
    const auto tokens = model.tokenizer().encode(text);
    const Seen seen = look(model, team, tokens);
    const int layers = model.config().num_layers();
    const auto n = static_cast<double>(seen.likeliest.size());
    double exits = 0, total = 0, after = 0, lost = 0;
    std::vector<double> settles(static_cast<size_t>(layers)), right(settles);
    for (size_t t = 0; t < seen.likeliest.size(); ++t) {
        const auto& all = seen.likeliest[t];
        int exit = 0;
        for (int l = 0; l < layers; ++l) {
            if (all[l] != all.back()) exit = l + 1;
            right[l] += all[l] == tokens[t + 1] ? 1 / n : 0;
        }
        settles[exit] += 1 / n;
        exits += exit / n;
        for (int l = 0; l < layers; ++l) {
            total += seen.experts[t][l] / n;
            if (l > exit) after += seen.experts[t][l] / n;
        }
        lost += std::count(all.begin(), all.end(), tokens[t + 1]) > 0 && all.back() != tokens[t + 1]
                    ? 1 / n
                    : 0;
    }
    ExitLensOptions options;
    options.max_rows = 7;  // passes end anywhere
    const auto result = exit_lens(model, {{"", text}}, team, options);
    EXPECT_EQ(result.tokens, static_cast<int64_t>(n));
    const ExitLensPolicy& p = result.policies[0];
    double sum = 0, spent = 0;
    for (int l = 0; l < layers; ++l) {
        EXPECT_NEAR(p.layers[l].settles, settles[l], 1e-9);
        EXPECT_NEAR(p.layers[l].right, right[l], 1e-9);
        sum += p.layers[l].settles * p.layers[l].group_after;
        spent += p.layers[l].spent_after;
    }
    EXPECT_NEAR(p.exit_layer.mean, exits, 1e-9);
    EXPECT_NEAR(p.total.mean, total, 1e-9);
    EXPECT_NEAR(p.after.mean, after, 1e-9);
    EXPECT_NEAR(p.share_after.mean, after / total, 1e-9);
    EXPECT_NEAR(sum, after, 1e-9);
    EXPECT_NEAR(spent, after, 1e-9);
    EXPECT_NEAR(p.lost, lost, 1e-9);
    EXPECT_EQ(p.layers.back().agrees, 1);
    EXPECT_EQ(p.layers.back().group_after, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, ExitLens,
                         ::testing::Values(testing::tiny_olmoe(), testing::tiny_muster()));

TEST(ExitLensRun, ReadsLongTextsInWindowsAndComparesPolicies) {
    const TemporaryDirectory directory;
    const Model model = tiny_model(directory, testing::tiny_olmoe());
    SerialExecutor executor;
    std::string text;
    for (int i = 0; i < 100; ++i) text += "words " + std::to_string(i) + " ";
    ExitLensOptions options;
    options.policies = {RoutingPolicy::parse("model"), RoutingPolicy::parse("top-k:1")};
    options.max_tokens = 600;
    options.window = 20;
    options.stride = 15;
    const auto result = exit_lens(model, {{"", text}}, executor, options);
    EXPECT_EQ(result.tokens, 600);
    EXPECT_EQ(result.units, 3);
    EXPECT_EQ(result.policies[0].total.mean, 6);
    EXPECT_EQ(result.policies[1].total.mean, 3);
    double settles = 0;
    for (const ExitLayer& l : result.policies[1].layers) settles += l.settles;
    EXPECT_NEAR(settles, 1, 1e-9);
    const auto json = nlohmann::json::parse(to_json(result));
    EXPECT_EQ(json["policies"][1]["experts_total"]["mean"], 3.0);
    EXPECT_EQ(json["policies"][0]["layers"].size(), 3u);

    options.policies = {RoutingPolicy::parse("mean:2")};
    options.window = options.stride = 0;
    // Controllers go through the states that they have when the text is scored.
    auto ids = model.tokenizer().encode(text);
    ids.resize(601);
    KvCache cache(model.config(), 48);
    RequestRouting routing(model.config(), options.policies[0]);
    ForwardContext context(model, executor, 48);
    const auto losses = token_losses(context, cache, routing, ids);
    const int64_t total = std::accumulate(losses.experts.begin(), losses.experts.end(), int64_t{0});
    EXPECT_NEAR(exit_lens(model, {{"", text}}, executor, options).policies[0].total.mean,
                static_cast<double>(total) / 600, 1e-9);
    options.policies = {RoutingPolicy::parse("speed:20")};
    EXPECT_THROW(exit_lens(model, {{"", text}}, executor, options), Error);
    options.policies = {{}};
    options.window = options.stride = 20;
    EXPECT_THROW(exit_lens(model, {{"", text}}, executor, options), Error);
    options.stride = 0;
    EXPECT_THROW(exit_lens(model, {{"", ""}}, executor, options), Error);
    // It can be stopped within a text.
    int64_t seen = 0;
    options.progress = [&](std::string_view, int64_t done, int64_t total) {
        EXPECT_EQ(total, 600);
        seen = done;
        return false;
    };
    EXPECT_THROW(exit_lens(model, {{"", text}}, executor, options), Error);
    EXPECT_GT(seen, 0);
    EXPECT_LE(seen, 20);
}

}  // namespace
}  // namespace muster
