// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/controller.h"

#include <gmock/gmock.h>

#include <cmath>

#include "muster/core/error.h"
#include "muster/routing/testing.h"

namespace muster {
namespace {

using namespace routing_testing;

constexpr int kWindow = 32, kLayers = 3;

/// Tokens of one window: logits that are `sharpness` times a normal number, by token more or less.
Logits window_logits(int window, int experts, double sharpness) {
    Logits logits = random_logits(kWindow * kLayers, experts, 1000 + window);
    Random random(window);
    for (int t = 0; t < kWindow * kLayers; ++t) {
        const auto x = static_cast<float>(sharpness * std::exp(0.5 * random.normal()));
        for (int e = 0; e < experts; ++e) logits.data[t * experts + e] *= x;
    }
    return logits;
}

/// Mean experts over 2,000 tokens from the first on, relative to `target`.
double relative_mean(double target, int experts, double sharpness) {
    ResolvedRouter router = resolved(("mean:" + std::to_string(target)).c_str(), spec_of(experts));
    MeanController controller({.target = target, .high = double(experts), .num_experts = experts});
    double sum = 0;
    constexpr int kWindows = 63;
    for (int w = 0; w < kWindows; ++w) {
        router.p = controller.p();
        const double mean = run(window_logits(w, experts, sharpness), router).table.activations() /
                            double(kWindow * kLayers);
        controller.update(mean);
        sum += mean / kWindows;
    }
    return sum / target;
}

TEST(MeanController, HoldsEveryMeanWhateverTheRouter) {
    for (const double sharpness : {0.0, 0.05, 0.5, 2.0, 6.0})
        for (int k = 1; k <= 16; ++k)
            EXPECT_NEAR(relative_mean(k, 16, sharpness), 1, 0.02) << k << " " << sharpness;
    for (const double target : {1.25, 5.5, 63.0, 64.0})
        EXPECT_NEAR(relative_mean(target, 64, 2.0), 1, 0.02) << target;
}

TEST(MeanController, DoesNotWindUpAgainstItsLimits) {
    for (const bool above : {true, false}) {
        MeanController controller({.target = 8, .low = 1, .high = 16, .num_experts = 16});
        const double stuck = above ? 4 : 12;  // whatever p, the load stays there
        for (int i = 0; i < 1000; ++i) controller.update(stuck);
        EXPECT_EQ(controller.p() == 1, above);
        EXPECT_EQ(controller.p() < 1 / 16.0, !above);
        const double debt = controller.debt(), u = controller.log_odds();
        for (int i = 0; i < 1000; ++i) controller.update(stuck);
        EXPECT_EQ(controller.debt(), debt);
        EXPECT_EQ(controller.log_odds(), u);
        // It leaves the limit with the first window of the other sign.
        controller.update(above ? 16 : 1);
        EXPECT_NE(controller.log_odds(), u);
    }
}

TEST(MeanController, FollowsItsFormula) {
    MeanController controller({.target = 4, .low = 1, .high = 8, .num_experts = 8});
    const auto v = [](double m) { return std::log((m - 1 + 0.25) / (8 - m + 0.25)); };
    double u = v(4);
    EXPECT_DOUBLE_EQ(controller.log_odds(), u);
    EXPECT_DOUBLE_EQ(controller.p(), 1 / (1 + std::exp(-u)));
    controller.update(3);  // one too few: a quarter more is wanted
    u += v(4.25) - v(3);
    EXPECT_DOUBLE_EQ(controller.log_odds(), u);
    controller.update(6);
    u += v(4 - 0.25) - v(6);
    EXPECT_DOUBLE_EQ(controller.log_odds(), u);
    controller.update(std::nan(""));
    EXPECT_DOUBLE_EQ(controller.log_odds(), u);
    MeanController other({.target = 4, .low = 1, .high = 8, .num_experts = 8});
    other.restore(controller.log_odds(), controller.debt());
    controller.update(5), other.update(5);
    EXPECT_EQ(other.p(), controller.p());
    other.restart();
    EXPECT_DOUBLE_EQ(other.log_odds(), v(4));
    EXPECT_EQ(other.debt(), 0);
}

TEST(MeanController, StartsFromWhatIsKnown) {
    const MeanController controller({.target = 1.5,
                                     .low = 1,
                                     .high = 16,
                                     .num_experts = 16,
                                     .known_mean = 1.5,
                                     .known_p = 0.4});
    EXPECT_DOUBLE_EQ(controller.p(), 0.4);
}

TEST(MeanController, StartsFromWhatAFirstWindowShows) {
    MeanController controller({.target = 3, .low = 1, .high = 8, .num_experts = 8});
    OverGrid<double> means;
    for (int i = 0; i < kGridPoints; ++i) means[i] = i < 20 ? 2 : 6;  // log-odds 1.5 and 2
    controller.begin(3, means);
    EXPECT_DOUBLE_EQ(controller.log_odds(), 1.5 + 0.5 / 4);
    EXPECT_EQ(controller.debt(), 0);
    controller.begin(4, means);  // one too many, which is to be saved
    EXPECT_EQ(controller.debt(), 1);
    EXPECT_LT(controller.log_odds(), 1.5 + 0.5 / 4);
    means.fill(1);
    controller.restart();
    controller.begin(3, means);
    EXPECT_EQ(controller.p(), 1);
    means.fill(8);
    controller.restart();
    controller.begin(3, means);
    EXPECT_EQ(controller.p(), 0);
}

TEST(MeanController, RefusesBadSettings) {
    EXPECT_THROW(MeanController({.target = 0}), Error);
    EXPECT_THROW(MeanController({.target = std::nan("")}), Error);
    EXPECT_THROW(MeanController({.target = 1, .low = 3, .high = 2}), Error);
    EXPECT_THROW(MeanController({.target = 1, .num_experts = 0}), Error);
    EXPECT_THROW(MeanController({.target = 1, .known_mean = 1, .known_p = 1}), Error);
}

/// A machine on which a token costs `fixed` seconds, and `each` for an expert in every layer; one
/// token in ten takes twice as long.
struct Machine {
    double fixed, each;

    /// Tokens per second after the first 64 tokens.
    double speed(SpeedController& controller, ResolvedRouter& router, double sharpness) const {
        constexpr int kTokens = 512, kSettling = 64;
        double seconds = 0;
        Random random(3);
        for (int w = 0; w < kTokens / kWindow; ++w) {
            const Logits logits = window_logits(w, router.spec.num_experts, sharpness);
            for (int t = 0; t < kWindow; ++t) {
                router.p = controller.p();
                Logits rows = logits;
                rows.data = {logits.data.begin() + t * kLayers * router.spec.num_experts,
                             logits.data.begin() + (t + 1) * kLayers * router.spec.num_experts};
                rows.tokens = kLayers;
                const double mean = run(rows, router).table.activations() / double(kLayers);
                const double noise = random.uniform() < 0.1 ? 2 : 1;
                const double took = (fixed + each * mean) * noise / 1.1;
                controller.update(mean, took);
                if (w * kWindow + t >= kSettling) seconds += took;
            }
        }
        return (kTokens - kSettling) / seconds;
    }
};

TEST(SpeedController, HoldsWhatCanBeReached) {
    for (const double sharpness : {0.2, 1.0, 4.0})
        for (const double belief : {0.5, 1.0, 2.0})  // fixed costs taken for so many times theirs
            for (const double experts : {2.0, 5.0, 7.5}) {
                const Machine machine{0.02, 0.01};
                const double target = 1 / (0.02 + 0.01 * experts);
                ResolvedRouter router = resolved("speed:1,max=8", spec_of(16));
                SpeedController controller({.tokens_per_second = target,
                                            .fixed = 2 * belief,
                                            .high = 8,
                                            .num_experts = 16});
                EXPECT_NEAR(machine.speed(controller, router, sharpness), target, 0.05 * target)
                    << sharpness << " " << belief << " " << experts;
                EXPECT_EQ(controller.reach(target, experts), SpeedReach::held);
                EXPECT_GT(controller.expert_seconds(), 0);
            }
}

TEST(SpeedController, SaysWhatCannotBeReached) {
    const Machine machine{0.02, 0.01};  // 10 to 33 tokens per second
    ResolvedRouter router = resolved("speed:1,max=8", spec_of(16));
    SpeedController fast({.tokens_per_second = 50, .fixed = 2, .high = 8, .num_experts = 16});
    EXPECT_NEAR(machine.speed(fast, router, 1), 1 / 0.03, 1.5);
    EXPECT_EQ(fast.reach(1 / 0.03, 1), SpeedReach::too_high);
    EXPECT_EQ(fast.limit(SpeedReach::too_high), 1);
    EXPECT_DOUBLE_EQ(fast.speed_with(4, 30, 1), 15);
    const SpeedController new_one({.tokens_per_second = 50, .fixed = 2, .high = 8});
    EXPECT_EQ(new_one.reach(10, 1), SpeedReach::held) << "nothing is known";
    SpeedController slow({.tokens_per_second = 5, .fixed = 2, .high = 8, .num_experts = 16});
    EXPECT_NEAR(machine.speed(slow, router, 1), 10, 0.5);
    EXPECT_EQ(slow.reach(10, 8), SpeedReach::too_low);
    EXPECT_EQ(slow.p(), 1);
}

TEST(SpeedController, RefusesBadSettings) {
    EXPECT_THROW(SpeedController({.tokens_per_second = 0}), Error);
    EXPECT_THROW(SpeedController({.fixed = -1}), Error);
    EXPECT_THROW(SpeedController({.low = 3, .high = 2}), Error);
    EXPECT_THROW(SpeedController({.start_p = 0}), Error);
}

}  // namespace
}  // namespace muster
