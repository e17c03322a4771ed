// SPDX-License-Identifier: Apache-2.0
#include "muster/counterfactual/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/thread_team.h"
#include "muster/counterfactual/window.h"
#include "muster/model/export.h"
#include "muster/model/testing.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

Model tiny_model(uint64_t seed = 1) {
    const testing::TemporaryDirectory directory;
    testing::random_checkpoint(testing::tiny_olmoe(), seed).write(directory / "run");
    export_gguf(directory / "run", directory / "model.gguf", DType::f32);
    return Model::load(directory / "model.gguf");
}

class Calibration : public ::testing::Test {
  protected:
    Calibration() {
        options.window = 40;
        options.draws = 2;
        options.experts_per_token = 2;
        for (int w = 0; w < 6; ++w) {
            std::vector<int32_t> tokens = testing::random_tokens(model.config(), 40 * 6);
            windows.emplace_back(tokens.begin() + 40 * w, tokens.begin() + 40 * (w + 1));
        }
    }
    CalibrationResult run(int threads = 2) {
        ThreadTeam team(threads);
        return calibrate(model, team, windows, options);
    }
    /// Of the loss of row t when expert e of layer 1 is banned there.
    double rise_without(Window& window, int t, int e) const {
        RoutingPolicy without = RoutingPolicy::parse("top-k:2");
        without.ban = {{1, e}};
        RequestRouting routing(model.config(), without);
        const Branch branch{t, &routing};
        float loss = 0;
        window.branch(1, {&branch, 1}, nullptr, {&loss, 1});
        return double{loss} - window.losses()[static_cast<size_t>(t)];
    }
    /// Whether the impacts of layer 1 are the means of what `note` says of hard rows: it calls
    /// add(expert, what an ablation changes) for those that a row speaks of.
    template <typename Note>
    void expect_impacts(const CalibrationResult& result, Note note) {
        ThreadTeam team(2);
        Window window(model, team, 40, RoutingPolicy::parse("top-k:2"));
        const auto experts = static_cast<size_t>(model.config().layers[1].experts());
        std::vector<double> sums(experts), counts(experts);
        const auto add = [&](size_t e, double change) { sums[e] += change, ++counts[e]; };
        for (const auto& tokens : windows) {
            window.read(tokens);
            for (int t = 16; t < window.rows(); ++t)
                if (window.losses()[static_cast<size_t>(t)] > result.hard_loss)
                    note(window, t, add);
        }
        for (size_t e = 0; e < experts; ++e) {
            const ExpertEvidence& found = result.plan.layers[1].experts[e];
            EXPECT_EQ(found.tokens, counts[e]);
            if (counts[e] == 0) continue;
            EXPECT_NEAR(found.impact.mean, sums[e] / counts[e], 1e-5);
        }
    }
    std::string refusal() {
        try {
            run();
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    }

    testing::TemporaryDirectory directory;
    Model model = tiny_model();
    CalibrationOptions options;
    std::vector<std::vector<int32_t>> windows;
};

TEST_F(Calibration, MakesAPlanOfTheModelWithEvidence) {
    CalibrationResult result = run();
    EXPECT_EQ(result.windows, 6);
    EXPECT_FALSE(result.stopped);
    EXPECT_GT(result.hard_loss, result.easy_loss);
    const ActivationPlan& plan = result.plan;
    EXPECT_EQ(plan.model, model.hash());
    int budgets = 0;
    int64_t tokens = 0;
    for (const LayerEvidence& layer : plan.layers) {
        budgets += layer.budget;
        EXPECT_GT(layer.hard.mean, 0);
        EXPECT_LE(layer.contrast.low, layer.contrast.mean);
        EXPECT_GE(layer.contrast.high, layer.contrast.mean);
        double ranks = 0;
        for (const ExpertEvidence& e : layer.experts) {
            tokens += e.tokens;
            ranks += e.gate_rank;
        }
        const auto n = static_cast<double>(layer.experts.size());
        EXPECT_NEAR(ranks, n * (n + 1) / 2, 1e-6);
    }
    EXPECT_EQ(budgets, 2 * model.config().num_layers());
    // A fifth of the rows behind each window's first 16 is hard, with 2 experts in each layer.
    EXPECT_NEAR(tokens, 0.2 * 6 * 23 * 2 * model.config().num_layers(), 12);
    model.add_plan("p", plan);
}

TEST_F(Calibration, BudgetsByLossAreTheCheapestOfTheNumbersTried) {
    options.budgets = BudgetRule::loss;
    options.max_shift = 1;
    const CalibrationResult result = run();
    EXPECT_TRUE(std::isfinite(result.budget_change));
    const auto& layers = result.plan.layers;
    ASSERT_EQ(layers.size(), 3u);
    const auto change = [&](size_t l, int n) {
        for (const NumberEvidence& x : layers[l].numbers)
            if (x.experts == n) return x.change.mean;
        return 0.0;
    };
    // What one more expert does to the losses behind the lead, by whole passes.
    ThreadTeam team(2);
    Window base(model, team, 40, RoutingPolicy::parse("top-k:2"));
    Window more(model, team, 40, RoutingPolicy::parse("top-k:2/3/2"));
    double sum = 0, rows = 0;
    for (const auto& tokens : windows) {
        base.read(tokens);
        more.read(tokens);
        for (size_t t = 16; t < base.losses().size(); ++t, ++rows)
            sum += double{more.losses()[t]} - base.losses()[t];
    }
    EXPECT_NEAR(change(1, 3), sum / rows, 1e-5);
    double best = 0, chosen = 0;
    int total = 0;
    for (size_t l = 0; l < 3; ++l) {
        EXPECT_EQ(layers[l].numbers.size(), 2u);
        total += layers[l].budget;
        chosen += change(l, layers[l].budget);
        for (size_t m = 0; m < 3; ++m)
            if (l != m) best = std::min(best, change(l, 3) + change(m, 1));
    }
    EXPECT_EQ(total, 6);
    EXPECT_NEAR(chosen, best, 1e-12);
    EXPECT_TRUE(std::isnan((options.budgets = BudgetRule::contrast, run().budget_change)));
    EXPECT_EQ(ActivationPlan::from_json(result.plan.to_json(), "test").to_json(),
              result.plan.to_json());
    model.add_plan("p", result.plan);
}

TEST_F(Calibration, DoesNotDependOnThreads) {
    EXPECT_EQ(run(1).plan.to_json(), run(3).plan.to_json());
}

TEST_F(Calibration, ImpactsAreThoseOfTheWindowsAblations) {
    options.layers = {1};
    options.hard = 0.5;
    options.easy = 0.5;
    const CalibrationResult result = run();
    expect_impacts(result, [this](Window& window, int t, auto add) {
        for (const int32_t e : window.routes(1).token_experts(t))
            add(static_cast<size_t>(e), rise_without(window, t, e));
    });
    EXPECT_EQ(result.plan.layers[0].budget, 2) << "not measured: the baseline's";
}

TEST_F(Calibration, TheBoundaryComparesTheLastWithTheNext) {
    options.impacts = ImpactRule::boundary;
    options.layers = {1};
    options.hard = 0.5;
    options.easy = 0.5;
    const CalibrationResult result = run();
    expect_impacts(result, [this](Window& window, int t, auto add) {
        // By the scores themselves, which this model selects by.
        const MatrixView<const float> scores = window.scores(1);
        std::vector<size_t> order(static_cast<size_t>(scores.cols));
        std::iota(order.begin(), order.end(), size_t{0});
        std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
            return scores(t, static_cast<int64_t>(a)) > scores(t, static_cast<int64_t>(b));
        });
        const double rise = rise_without(window, t, static_cast<int>(order[1]));
        add(order[1], rise);
        add(order[2], -rise);
    });
    options.ablation = Ablation::share;
    EXPECT_THAT(refusal(), HasSubstr("boundary"));
    options.impacts = ImpactRule::users;
    EXPECT_EQ(refusal(), "");
    options.experts_per_token = 1;
    EXPECT_THAT(refusal(), HasSubstr("no other can take"));
}

/// A kill comes without notice: what was saved until then is there.
TEST_F(Calibration, GoesOnAfterAKill) {
    const std::string whole = run().plan.to_json();
    options.state = directory / "state";
    options.save_seconds = 0;
    struct Kill {};
    int windows_begun = 0;
    int64_t before = 0;
    options.progress = [&](std::string_view what, int64_t done, int64_t) {
        windows_begun += what == "ablating" && before != done;
        if (windows_begun > 3 * 3) throw Kill();  // three layers each
        before = done;
        return true;
    };
    EXPECT_THROW(run(), Kill);
    ASSERT_TRUE(std::filesystem::exists(options.state));
    int64_t again = 0;
    options.progress = [&](std::string_view what, int64_t, int64_t) {
        again += what == "ablating";
        return true;
    };
    EXPECT_EQ(run().plan.to_json(), whole);
    EXPECT_EQ(again, 3 * 3) << "three windows of six";
}

TEST_F(Calibration, SharedWeightTakesTheExpertAndNoOther) {
    options.ablation = Ablation::share;
    const CalibrationResult shared = run();
    options.ablation = Ablation::next;
    const CalibrationResult next = run();
    int different = 0;
    for (size_t l = 0; l < shared.plan.layers.size(); ++l)
        for (size_t e = 0; e < shared.plan.layers[l].experts.size(); ++e) {
            const ExpertEvidence &a = shared.plan.layers[l].experts[e],
                                 &b = next.plan.layers[l].experts[e];
            EXPECT_EQ(a.tokens, b.tokens);
            different += a.tokens > 0 && a.impact.mean != b.impact.mean;
        }
    EXPECT_GT(different, 0);
}

TEST_F(Calibration, GoesOnWhereItWasStopped) {
    const std::string whole = run().plan.to_json();
    options.state = directory / "state";
    for (int64_t allowed : {30, 60, 45}) {
        int64_t calls = 0;
        options.progress = [&](std::string_view, int64_t done, int64_t total) {
            EXPECT_LE(done, total);
            return ++calls < allowed;
        };
        if (!run().stopped) break;
    }
    options.progress = {};
    EXPECT_TRUE(std::filesystem::exists(options.state));
    EXPECT_EQ(run().plan.to_json(), whole);
}

TEST_F(Calibration, OthersStatesAndDamagedOnesAreRefused) {
    options.state = directory / "state";
    run();
    options.noise = 0.1;
    EXPECT_THAT(refusal(), HasSubstr("with other settings"));
    options.noise = 0.05;
    options.lambda = 2e6;
    EXPECT_THAT(refusal(), HasSubstr("lambda"));
    options.lambda = 0.1;
    windows[0][3] ^= 1;
    EXPECT_THAT(refusal(), HasSubstr("another model or text"));
    windows[0][3] ^= 1;
    const std::string text = read_file(options.state);
    for (size_t n = 0; n < text.size(); n += text.size() / 40) {
        write_file(options.state, text.substr(0, n));
        EXPECT_THROW(run(), Error) << n;
    }
    write_file(options.state, text);
    EXPECT_EQ(refusal(), "");
}

TEST_F(Calibration, StopsMeasuringWhenTimeIsUp) {
    options.seconds = 1e-9;
    const CalibrationResult result = run();
    EXPECT_FALSE(result.stopped);
    EXPECT_EQ(result.windows, 1);
}

TEST_F(Calibration, ShiftsStayWithinTheirBound) {
    options.max_shift = 1;
    for (const LayerEvidence& layer : run().plan.layers) {
        EXPECT_GE(layer.budget, 1);
        EXPECT_LE(layer.budget, 3);
    }
}

TEST_F(Calibration, BadOptionsAreRefused) {
    const auto with = [&](auto change) {
        const CalibrationOptions before = options;
        change(options);
        const std::string text = refusal();
        options = before;
        return text;
    };
    using O = CalibrationOptions;
    EXPECT_THAT(with([](O& o) { o.experts_per_token = 99; }), HasSubstr("99 experts per token"));
    EXPECT_THAT(with([](O& o) { o.noise = 0; }), HasSubstr("noise"));
    EXPECT_THAT(with([](O& o) { o.hard = 1; }), HasSubstr("0 < easy <= hard < 1"));
    EXPECT_THAT(with([](O& o) { o.layers = {77}; }), HasSubstr("layer 77"));
    EXPECT_THAT(with([](O& o) { o.window = 8; }), HasSubstr("window of 8"));
    EXPECT_THAT(with([](O& o) { o.draws = 0; }), HasSubstr("0 draws"));
}

TEST_F(Calibration, WindowsAreCutFromTexts) {
    const std::vector<std::string> texts{std::string(400, 'a') + " b c d", "short"};
    const auto cut = calibration_windows(model, texts, options, 0);
    ASSERT_FALSE(cut.empty());
    for (const auto& w : cut) {
        EXPECT_GE(w.size(), 32u);
        EXPECT_LE(w.size(), 40u);
    }
    EXPECT_EQ(calibration_windows(model, texts, options, 40).size(), 1u);
    EXPECT_THROW(calibration_windows(model, std::vector<std::string>{"x"}, options, 0), Error);
}

/// Whatever a plan says, every token gets exactly as many activations as under the baseline.
TEST_F(Calibration, APlanKeepsTheTotalForEveryToken) {
    ActivationPlan plan = run().plan;
    plan.layers[0].budget = 1;
    plan.layers[1].budget =
        2 * model.config().num_layers() - 1 - 2 * (model.config().num_layers() - 2);
    for (size_t l = 2; l < plan.layers.size(); ++l) plan.layers[l].budget = 2;
    model.add_plan("p", plan);
    ThreadTeam team(2);
    ForwardContext context(model, team, 40);
    for (const char* use :
         {"both", "global", "layers", "experts", "random-layers", "random-experts", "random"}) {
        RequestRouting routing(model.config(),
                               RoutingPolicy::parse(std::string("plan:p,use=") + use));
        KvCache cache(model.config(), 40);
        std::vector<BatchRow> rows;
        for (const int32_t id : windows[0]) rows.push_back({id, &cache, &routing, true});
        context.forward(rows);
        for (int t = 0; t < 40; ++t) {
            const auto counts = context.experts_of(t);
            EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), 0),
                      2 * model.config().num_layers())
                << use;
        }
    }
    plan.model ^= 1;
    EXPECT_THROW(model.add_plan("other", plan), Error);
    EXPECT_THROW(RequestRouting(model.config(), RoutingPolicy::parse("plan:unknown")), Error);
}

}  // namespace
}  // namespace muster
