// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "muster/counterfactual/measurements.h"
#include "muster/model/testing.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kTiny = 1e-12;  // sums of a few numbers of size 1

using Lists = std::vector<std::vector<double>>;

/// 3 layers of 6 experts, a baseline of 2, and windows that a test fills.
class Conclude : public ::testing::Test {
  protected:
    Conclude() { options.experts_per_token = 2; }

    WindowMeasurement& add_window(int64_t rows = 20, int64_t hard_rows = 1, int64_t easy_rows = 1) {
        WindowMeasurement& w = measured.windows.emplace_back();
        w.rows = rows;
        w.hard_rows = hard_rows;
        w.easy_rows = easy_rows;
        for (const FeedForwardConfig& ff : config.layers) {
            WindowMeasurement::Layer& layer = w.layers.emplace_back();
            if (ff.dense()) continue;
            const auto n = static_cast<size_t>(ff.experts());
            layer.impact.assign(n, 0);
            layer.tokens.assign(n, 0);
            layer.rank.assign(n, 0);
            layer.load.assign(n, 0);
        }
        return w;
    }
    /// A window whose layers have these contrasts, but for a common factor.
    void add_contrasts(const std::vector<double>& contrasts) {
        WindowMeasurement& w = add_window();
        for (size_t l = 0; l < contrasts.size(); ++l) {
            w.layers[l].hard = contrasts[l];
            w.layers[l].easy = 1;
        }
    }
    /// A window with these WindowMeasurement::Layer::numbers; no list: not measured.
    void add_numbers(int64_t rows, const Lists& numbers) {
        WindowMeasurement& w = add_window(rows);
        for (size_t l = 0; l < numbers.size(); ++l) {
            w.layers[l].numbers = numbers[l];
            if (numbers[l].empty()) w.layers[l] = {};
        }
    }
    void make_dense(size_t l) {
        config.layers[l].widths = {32};
        config.layers[l].router = {};
    }

    CalibrationResult run() const { return conclude(config, measured, options); }
    static std::vector<int> budgets_of(const CalibrationResult& result) {
        std::vector<int> out;
        for (const LayerEvidence& layer : result.plan.layers) out.push_back(layer.budget);
        return out;
    }
    std::vector<int> budgets() const { return budgets_of(run()); }
    std::vector<int> budgets_by_contrasts(const std::vector<double>& contrasts) {
        measured.windows.clear();
        add_contrasts(contrasts);
        return budgets();
    }

    ModelConfig config = testing::tiny_olmoe();
    CalibrationOptions options;
    Measurements measured;
};

TEST_F(Conclude, KeepsWhatItWasGiven) {
    add_contrasts({1, 1, 1});
    add_contrasts({1, 1, 1});
    measured.settings = R"({"seed":7})";
    measured.hard_loss = 3;
    measured.easy_loss = 0.25;
    options.lambda = 0.375;
    const CalibrationResult result = run();
    EXPECT_EQ(result.windows, 2);
    EXPECT_FALSE(result.stopped);
    EXPECT_EQ(result.hard_loss, 3);
    EXPECT_EQ(result.easy_loss, 0.25);
    EXPECT_EQ(result.plan.experts_per_token, 2);
    EXPECT_EQ(result.plan.lambda, 0.375);
    EXPECT_EQ(result.plan.settings, measured.settings);
    EXPECT_THAT(result.plan.layers, SizeIs(3));
    EXPECT_THAT(result.plan.clusters, IsEmpty());
    EXPECT_TRUE(std::isnan(result.budget_change));
}

TEST_F(Conclude, SensitivityIsAMeanOverTheRowsOfAStratum) {
    WindowMeasurement& first = add_window(20, 2, 4);
    first.layers[0].hard = 1.0;
    first.layers[0].easy = 0.2;
    first.layers[1].hard = 0.4;
    WindowMeasurement& second = add_window(30, 3, 1);
    second.layers[0].hard = 0.5;
    second.layers[0].easy = 0.3;
    second.layers[1].hard = 0.1;
    const CalibrationResult result = run();
    const LayerEvidence& layer = result.plan.layers[0];
    EXPECT_NEAR(layer.hard.mean, 1.5 / 5, kTiny);
    EXPECT_NEAR(layer.easy.mean, 0.5 / 5, kTiny);
    EXPECT_NEAR(layer.contrast.mean, 0.3 / (0.1 + 1e-6), kTiny);
    // A quarter of the draws has one window alone: those are the ends of the interval.
    EXPECT_NEAR(layer.hard.low, 0.5 / 3, kTiny);
    EXPECT_NEAR(layer.hard.high, 1.0 / 2, kTiny);
    EXPECT_NEAR(layer.easy.low, 0.2 / 4, kTiny);
    EXPECT_NEAR(layer.easy.high, 0.3 / 1, kTiny);
    EXPECT_NEAR(layer.contrast.low, (0.5 / 3) / (0.3 + 1e-6), kTiny);
    EXPECT_NEAR(layer.contrast.high, 0.5 / (0.05 + 1e-6), kTiny);

    EXPECT_EQ(result.plan.layers[1].easy.mean, 0);
    EXPECT_NEAR(result.plan.layers[1].contrast.mean, (0.5 / 5) / 1e-6, 1e-6);
}

TEST_F(Conclude, WithoutEasyTokensThereIsNoContrast) {
    add_window(20, 5, 0).layers[0].hard = 1;
    add_window(20, 5, 0).layers[0].hard = 2;
    const CalibrationResult result = run();
    const LayerEvidence& layer = result.plan.layers[0];
    EXPECT_NEAR(layer.hard.mean, 0.3, kTiny);
    for (const Interval& none : {layer.easy, layer.contrast}) {
        EXPECT_EQ(none.mean, 0);
        EXPECT_EQ(none.low, 0);
        EXPECT_EQ(none.high, 0);
    }
    EXPECT_THAT(budgets_of(result), ElementsAre(2, 2, 2));
}

TEST_F(Conclude, BudgetsFollowContrastsByLargestRemainders) {
    // 1.45, 1.35 and 3.2 of 6: the one that is left goes to 1.45.
    EXPECT_THAT(budgets_by_contrasts({29, 27, 64}), ElementsAre(2, 1, 3));
    EXPECT_THAT(budgets_by_contrasts({27, 29, 64}), ElementsAre(1, 2, 3));
    EXPECT_THAT(budgets_by_contrasts({7, 7, 7}), ElementsAre(2, 2, 2));
}

TEST_F(Conclude, BudgetsKeepToTheExpertsThatThereAre) {
    EXPECT_THAT(budgets_by_contrasts({1, 2, 100}), ElementsAre(1, 1, 4));
    options.experts_per_token = 4;
    EXPECT_THAT(budgets_by_contrasts({1, 1, 100}), ElementsAre(3, 3, 6));
    config.layers[2].router.groups = 3;
    config.layers[2].router.groups_used = 2;
    options.experts_per_token = 3;
    EXPECT_THAT(budgets_by_contrasts({3, 2, 100}), ElementsAre(3, 2, 4));
}

TEST_F(Conclude, MaxShiftBoundsBudgetsOnBothSides) {
    EXPECT_THAT(budgets_by_contrasts({1, 2, 20}), ElementsAre(1, 1, 4));
    options.max_shift = 1;
    EXPECT_THAT(budgets_by_contrasts({1, 2, 20}), ElementsAre(1, 2, 3));

    options.experts_per_token = 3;
    options.max_shift = 0;
    EXPECT_THAT(budgets_by_contrasts({1, 20, 21}), ElementsAre(1, 4, 4));
    options.max_shift = 1;
    EXPECT_THAT(budgets_by_contrasts({1, 20, 21}), ElementsAre(2, 3, 4));
}

TEST_F(Conclude, UnmeasuredLayersKeepTheBaselineAndHaveNoEvidence) {
    add_contrasts({1, 0, 3});
    measured.windows[0].layers[1] = {};
    const CalibrationResult result = run();
    EXPECT_THAT(budgets_of(result), ElementsAre(1, 2, 3));
    const LayerEvidence& layer = result.plan.layers[1];
    EXPECT_EQ(layer.hard.mean, 0);
    EXPECT_EQ(layer.contrast.high, 0);
    ASSERT_THAT(layer.experts, SizeIs(6));
    for (const ExpertEvidence& e : layer.experts) EXPECT_EQ(e.tokens, 0);
}

TEST_F(Conclude, DenseLayersHaveNoBudgetAndNoExperts) {
    make_dense(0);
    add_contrasts({0, 1, 3});
    const CalibrationResult result = run();
    EXPECT_THAT(budgets_of(result), ElementsAre(0, 1, 3));
    EXPECT_THAT(result.plan.layers[0].experts, IsEmpty());
    EXPECT_THAT(result.plan.layers[1].experts, SizeIs(6));
}

TEST_F(Conclude, ImpactIsAMeanOverAnExpertsTokens) {
    const std::vector<int64_t> rows = {20, 30, 50};
    const std::vector<double> ranks = {1, 2, 4};
    for (size_t w = 0; w < 3; ++w)
        add_window(rows[w]).layers[1].rank[0] = static_cast<double>(rows[w]) * ranks[w];
    auto& windows = measured.windows;
    windows[0].layers[1].impact[0] = 1.0;
    windows[0].layers[1].tokens[0] = 2;
    windows[1].layers[1].impact[0] = 0.5;
    windows[1].layers[1].tokens[0] = 4;
    windows[0].layers[1].impact[1] = -0.75;
    windows[0].layers[1].tokens[1] = 3;
    const CalibrationResult result = run();
    const std::vector<ExpertEvidence>& experts = result.plan.layers[1].experts;
    ASSERT_THAT(experts, SizeIs(6));

    EXPECT_EQ(experts[0].tokens, 6);
    EXPECT_NEAR(experts[0].impact.mean, 1.5 / 6, kTiny);
    EXPECT_NEAR(experts[0].impact.low, 0.5 / 4, kTiny);
    EXPECT_NEAR(experts[0].impact.high, 1.0 / 2, kTiny);
    EXPECT_NEAR(experts[0].gate_rank, (20 * 1 + 30 * 2 + 50 * 4) / 100.0, kTiny);

    // One window used it, and says nothing of the spread.
    EXPECT_EQ(experts[1].tokens, 3);
    EXPECT_NEAR(experts[1].impact.mean, -0.25, kTiny);
    EXPECT_EQ(experts[1].impact.low, -kInfinity);
    EXPECT_EQ(experts[1].impact.high, kInfinity);

    EXPECT_EQ(experts[2].tokens, 0);
    EXPECT_EQ(experts[2].impact.mean, 0);
    EXPECT_EQ(experts[2].impact.low, 0);
    EXPECT_EQ(experts[2].impact.high, 0);
    EXPECT_EQ(result.plan.layers[0].experts[0].tokens, 0);
}

/// Two windows' impacts and tokens of one expert, and its mean gate rank.
struct Expert {
    double impacts[2];
    int64_t tokens[2];
    double rank;
};

class DormantExperts : public Conclude {
  protected:
    /// Which experts of layer 0 are.
    std::vector<size_t> found() {
        measured.windows.clear();
        for (size_t w = 0; w < 2; ++w) {
            WindowMeasurement::Layer& layer = add_window(40).layers[0];
            for (size_t e = 0; e < experts.size(); ++e) {
                const Expert& x = experts[e];
                layer.impact[e] = x.impacts[w] * static_cast<double>(x.tokens[w]);
                layer.tokens[e] = x.tokens[w];
                layer.rank[e] = 40 * x.rank;
            }
        }
        std::vector<size_t> out;
        const CalibrationResult result = run();
        for (size_t e = 0; e < experts.size(); ++e)
            if (result.plan.layers[0].experts[e].dormant) out.push_back(e);
        return out;
    }

    // The upper quarter, from 0.25 * 0.15 + 0.75 * 0.2 = 0.1875 on, are 2 and 4; the lower half by
    // the gate are 3, 4 and 5.
    std::vector<Expert> experts = {
        {{0.10, 0.10}, {10, 10}, 1}, {{0.05, 0.05}, {10, 10}, 2}, {{0.20, 0.20}, {10, 10}, 3},
        {{0.15, 0.15}, {10, 10}, 5}, {{0.30, 0.30}, {10, 10}, 4}, {{-0.1, -0.1}, {10, 10}, 6},
    };
};

TEST_F(DormantExperts, HaveAHighImpactAndALowRank) {
    EXPECT_THAT(found(), ElementsAre(4));
    std::swap(experts[2].rank, experts[4].rank);
    EXPECT_THAT(found(), ElementsAre(2));
}

TEST_F(DormantExperts, AreInTheUpperQuarter) {
    experts[3].impacts[0] = experts[3].impacts[1] = 0.22;
    EXPECT_THAT(found(), ElementsAre(3, 4));
}

TEST_F(DormantExperts, HaveEightTokens) {
    experts[4].tokens[0] = 4;
    experts[4].tokens[1] = 4;
    EXPECT_THAT(found(), ElementsAre(4));
    experts[4].tokens[1] = 3;
    EXPECT_THAT(found(), IsEmpty());
}

TEST_F(DormantExperts, HaveAnImpactSurelyAboveZero) {
    experts[4].impacts[0] = 0.6;
    experts[4].impacts[1] = 0.001;
    EXPECT_THAT(found(), ElementsAre(4));
    experts[4].impacts[1] = 0;
    EXPECT_THAT(found(), IsEmpty());
    experts[4].impacts[1] = -0.1;
    EXPECT_THAT(found(), IsEmpty());
}

TEST_F(DormantExperts, WereUsedInSeveralWindows) {
    experts[4].tokens[0] = 20;
    experts[4].tokens[1] = 0;
    EXPECT_THAT(found(), IsEmpty());
}

TEST_F(Conclude, ContrastsOfHalvesThatAgreeAreReliable) {
    // The even windows alone do not agree; their sums are 2, 4, 6.
    for (const auto& hard : Lists{{0, 4, 2}, {1, 2, 30}, {2, 0, 4}, {1, 2, 30}})
        add_contrasts(hard);
    EXPECT_NEAR(run().contrast_reliability, 1, kTiny);
}

TEST_F(Conclude, ContrastsOfOppositeHalvesAreNot) {
    for (const auto& hard : Lists{{0, 4, 2}, {30, 2, 1}, {2, 0, 4}, {30, 2, 1}})
        add_contrasts(hard);
    EXPECT_NEAR(run().contrast_reliability, -1, kTiny);
}

TEST_F(Conclude, FewContrastsSayNothingOfReliability) {
    add_contrasts({1, 2, 3});
    EXPECT_TRUE(std::isnan(run().contrast_reliability));
    add_contrasts({1, 2, 3});
    EXPECT_NEAR(run().contrast_reliability, 1, kTiny);
    measured.windows[1].hard_rows = 0;
    EXPECT_TRUE(std::isnan(run().contrast_reliability));
    measured.windows[1].hard_rows = 1;
    for (WindowMeasurement& w : measured.windows) w.layers[0] = {};
    EXPECT_TRUE(std::isnan(run().contrast_reliability));
}

class ImpactReliability : public Conclude {
  protected:
    /// Impacts in the even windows that mean `impacts` together, and in the odd ones that are
    /// `factor` times those beside what each layer has in common.
    void fill(double factor) {
        for (size_t w = 0; w < 4; ++w) {
            WindowMeasurement& window = add_window();
            for (size_t l = 0; l < 3; ++l)
                for (size_t e = 0; e < 6; ++e) {
                    const double apart = 0.3 * static_cast<double>(e % 3);
                    const double even = impacts[l][e] + (w == 0 ? apart : -apart);
                    const double odd = factor * impacts[l][e] + common[l];
                    const int64_t tokens = w % 2 == 0 ? 2 : static_cast<int64_t>(e) + 1;
                    window.layers[l].tokens[e] = tokens;
                    window.layers[l].impact[e] =
                        static_cast<double>(tokens) * (w % 2 == 0 ? even : odd);
                }
        }
    }
    void forget(size_t w, size_t l, size_t e) {
        measured.windows[w].layers[l].tokens[e] = 0;
        measured.windows[w].layers[l].impact[e] = 0;
    }

    const Lists impacts = {{0.1, 0.5, 0.2, 0.3, 0.0, 0.4},
                           {1.0, 0.3, 0.7, 0.2, 0.9, 0.1},
                           {0.0, 0.0, 0.2, 0.4, 0.1, 0.3}};
    const std::vector<double> common = {5, 0, -5};
};

TEST_F(ImpactReliability, IsOneWhereHalvesAgree) {
    fill(2);
    EXPECT_NEAR(run().impact_reliability, 1, 1e-9);
}

TEST_F(ImpactReliability, IsMinusOneWhereHalvesAreOpposite) {
    fill(-1);
    EXPECT_NEAR(run().impact_reliability, -1, 1e-9);
}

TEST_F(ImpactReliability, LeavesOutExpertsThatOneHalfDidNotUse) {
    fill(2);
    forget(1, 0, 5);
    forget(3, 0, 5);
    measured.windows[0].layers[0].impact[5] = 100;
    EXPECT_NEAR(run().impact_reliability, 1, 1e-9);
}

TEST_F(ImpactReliability, IsUnknownOfFewExperts) {
    fill(2);
    for (size_t w = 0; w < 4; ++w)
        for (size_t l = 0; l < 3; ++l)
            for (size_t e = 0; e < 6; ++e)
                if (l > 0 || e > 2) forget(w, l, e);
    EXPECT_NEAR(run().impact_reliability, 1, 1e-9);
    for (size_t w = 0; w < 4; ++w) forget(w, 0, 2);
    EXPECT_TRUE(std::isnan(run().impact_reliability));
}

TEST_F(ImpactReliability, IsUnknownOfOneWindow) {
    fill(2);
    measured.windows.resize(1);
    EXPECT_TRUE(std::isnan(run().impact_reliability));
}

class BudgetsByLoss : public Conclude {
  protected:
    BudgetsByLoss() {
        options.budgets = BudgetRule::loss;
        options.max_shift = 1;
    }
    static std::vector<int> tried(const LayerEvidence& layer) {
        std::vector<int> out;
        for (const NumberEvidence& x : layer.numbers) out.push_back(x.experts);
        return out;
    }

    // With 1, 2 and 3 experts, summed over 10 rows and over 30 behind the lead.
    const Lists even = {{1.2, 0, -2}, {0.5, 0, -1}, {0.2, 0, -0.1}};
    const Lists odd = {{3, 0, 1.5}, {6, 0, -9}, {3.6, 0, 0.6}};
    const Lists nothing = {{0, 0, 0}, {0, 0, 0}, {0, 0, 0}};
};

TEST_F(BudgetsByLoss, AreTheCheapestOfAllWindows) {
    add_numbers(16 + 10, even);
    add_numbers(16 + 30, odd);
    const CalibrationResult result = run();
    // -0.25 + 0.095; the next best, one more in layer 1 and one less in layer 0, changes
    // -0.25 + 0.105.
    EXPECT_THAT(budgets_of(result), ElementsAre(2, 3, 1));
    const Lists means = {{4.2 / 40, -0.5 / 40}, {6.5 / 40, -10.0 / 40}, {3.8 / 40, 0.5 / 40}};
    for (size_t l = 0; l < 3; ++l) {
        const LayerEvidence& layer = result.plan.layers[l];
        ASSERT_THAT(tried(layer), ElementsAre(1, 3));
        for (size_t i = 0; i < 2; ++i)
            EXPECT_NEAR(layer.numbers[i].change.mean, means[l][i], kTiny) << l << ' ' << i;
    }
    const Interval change = result.plan.layers[0].numbers[1].change;
    EXPECT_NEAR(change.low, -2.0 / 10, kTiny);
    EXPECT_NEAR(change.high, 1.5 / 30, kTiny);
}

TEST_F(BudgetsByLoss, AreJudgedByTheHalfThatDidNotChooseThem) {
    add_numbers(16 + 10, even);
    add_numbers(16 + 30, odd);
    // By the even windows 3, 2, 1 (-0.2 + 0.02), by the odd ones 1, 3, 2 (0.1 - 0.3).
    const double even_by_odd = (1.2 - 1.0) / 10;
    const double odd_by_even = (1.5 + 3.6) / 30;
    EXPECT_NEAR(run().budget_change, (even_by_odd + odd_by_even) / 2, kTiny);
}

TEST_F(BudgetsByLoss, AreNotJudgedWhereAHalfHasNoRows) {
    add_numbers(16 + 10, even);
    EXPECT_TRUE(std::isnan(run().budget_change));
    add_numbers(16, nothing);
    EXPECT_TRUE(std::isnan(run().budget_change));
    EXPECT_THAT(budgets(), ElementsAre(3, 2, 1));

    measured.windows.clear();
    add_numbers(9, nothing);
    add_numbers(16 + 30, odd);
    EXPECT_TRUE(std::isnan(run().budget_change));
    EXPECT_THAT(budgets(), ElementsAre(1, 3, 2));

    measured.windows.clear();
    add_numbers(16 + 10, even);
    add_numbers(16 + 1, {{0.1, 0, 0.05}, {0.2, 0, -0.3}, {0.12, 0, 0.02}});
    EXPECT_NEAR(run().budget_change, (0.02 + 0.17) / 2, kTiny);
}

TEST_F(BudgetsByLoss, NothingMovesWithoutEvidence) {
    add_numbers(16 + 10, nothing);
    add_numbers(16 + 10, nothing);
    EXPECT_THAT(budgets(), ElementsAre(2, 2, 2));
}

TEST_F(BudgetsByLoss, UnmeasuredLayersKeepTheBaseline) {
    add_numbers(16 + 10, {even[0], {}, even[2]});
    const CalibrationResult result = run();
    EXPECT_THAT(budgets_of(result), ElementsAre(3, 2, 1));
    EXPECT_THAT(result.plan.layers[1].numbers, IsEmpty());
    EXPECT_THAT(tried(result.plan.layers[2]), ElementsAre(1, 3));
}

TEST_F(BudgetsByLoss, DenseLayersHaveNone) {
    make_dense(0);
    add_numbers(16 + 10, {{}, even[1], even[2]});
    const CalibrationResult result = run();
    EXPECT_THAT(budgets_of(result), ElementsAre(0, 3, 1));
    EXPECT_THAT(result.plan.layers[0].numbers, IsEmpty());
}

TEST_F(BudgetsByLoss, ReachTwoUnlessTold) {
    options.max_shift = 0;
    const std::vector<double> mild = {0, 0.1, 0, -0.2, -0.3};
    add_numbers(16 + 10, {mild, mild, {0, 0.1, 0, -0.2, -0.8}});
    const CalibrationResult result = run();
    EXPECT_THAT(budgets_of(result), ElementsAre(1, 1, 4));
    EXPECT_THAT(tried(result.plan.layers[0]), ElementsAre(1, 3, 4));
}

TEST_F(BudgetsByLoss, KeepToTheExpertsThatThereAre) {
    options.max_shift = 2;
    options.experts_per_token = 5;
    const std::vector<double> dear = {0.3, 0.2, 0, 0.4, 0};
    add_numbers(16 + 10, {dear, dear, {-0.1, 0.2, 0, 0.4, 0}});
    const CalibrationResult result = run();
    // With 7 at no cost, 7, 5 and 3 would be cheapest, but a token gets 6 at most.
    EXPECT_THAT(budgets_of(result), ElementsAre(5, 5, 5));
    EXPECT_THAT(tried(result.plan.layers[0]), ElementsAre(3, 4, 6));
}

TEST_F(Conclude, ClustersHaveValuesInEveryLayerWithExperts) {
    make_dense(0);
    for (size_t w = 0; w < 4; ++w) {
        WindowMeasurement& window = add_window();
        window.layers[1] = {};
        window.layers[2].load[w % 2] = 40;
    }
    options.clusters = 2;
    const CalibrationResult result = run();
    ASSERT_THAT(result.plan.clusters, SizeIs(2));
    for (const ContextCluster& c : result.plan.clusters) {
        EXPECT_EQ(c.windows, 2);
        EXPECT_THAT(c.centre[0], IsEmpty());
        EXPECT_THAT(c.impact[0], IsEmpty());
        EXPECT_THAT(c.tokens[0], IsEmpty());
        EXPECT_THAT(c.centre[1], AllOf(SizeIs(6), Each(0)));
        EXPECT_THAT(c.impact[1], AllOf(SizeIs(6), Each(0)));
        EXPECT_THAT(c.tokens[1], AllOf(SizeIs(6), Each(0)));
        EXPECT_NEAR(c.centre[2][0] + c.centre[2][1], 1, 1e-6);
    }
    options.clusters = 1;
    EXPECT_THAT(run().plan.clusters, IsEmpty());
}

}  // namespace
}  // namespace muster
