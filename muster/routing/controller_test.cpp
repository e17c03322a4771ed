// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/controller.h"

#include <gmock/gmock.h>

#include "muster/core/error.h"
#include "muster/routing/testing.h"

namespace muster {
namespace {

using namespace routing_testing;

double mean_after(MeanController& controller, ResolvedRouter& router, int steps, int experts,
                  double sharpness) {
    double last = 0;
    for (int step = 0; step < steps; ++step) {
        Logits logits = random_logits(256, experts, 1000 + step);
        for (float& x : logits.data) x *= static_cast<float>(sharpness);
        router.p = controller.p();
        const Routed routed = run(logits, router);
        const double mean = routed.table.activations() / 256.0;
        controller.update(mean);
        last = step >= steps - 20 ? last + mean / 20 : 0;
    }
    return last;
}

TEST(MeanController, HoldsTheMeanOnRandomTokens) {
    for (const double target : {1.5, 3.0, 6.0}) {
        ResolvedRouter router = resolved(("mean:" + std::to_string(target)).c_str(), spec_of(16));
        MeanController controller({.target = target, .num_experts = 16});
        EXPECT_NEAR(mean_after(controller, router, 300, 16, 0.5), target, 0.05 * target);
        // The load changes: it follows.
        EXPECT_NEAR(mean_after(controller, router, 300, 16, 0.8), target, 0.05 * target);
    }
}

TEST(MeanController, DoesNotWindUpAgainstItsLimits) {
    for (const bool unreachable_above : {true, false}) {
        MeanController controller({.target = unreachable_above ? 16.0 : 1.0, .num_experts = 16});
        const double stuck = unreachable_above ? 8 : 4;  // whatever p, the load stays there
        for (int i = 0; i < 100000; ++i) controller.update(stuck);
        EXPECT_EQ(controller.p(), unreachable_above ? 0.99 : 0.01);
        const double sum = controller.integral_state();
        for (int i = 0; i < 100000; ++i) controller.update(stuck);
        EXPECT_EQ(controller.integral_state(), sum);
        // One error of the other sign moves it off the limit at once.
        controller.update(unreachable_above ? 24 : 0);
        EXPECT_NE(controller.p(), unreachable_above ? 0.99 : 0.01);
    }
}

TEST(MeanController, FollowsItsFormula) {
    MeanController controller({.target = 4, .num_experts = 8, .start = 0.5});
    EXPECT_EQ(controller.p(), 0.5);
    controller.update(3);
    EXPECT_DOUBLE_EQ(controller.p(), 0.5 + 0.5 * 0.125 + 0.05 * 0.125);
    controller.update(6);
    EXPECT_DOUBLE_EQ(controller.p(), 0.5 - 0.5 * 0.25 + 0.05 * (0.125 - 0.25));
    const double p = controller.p();
    controller.update(std::nan(""));
    EXPECT_EQ(controller.p(), p);
    MeanController other({.target = 4, .num_experts = 8, .start = 0.5});
    other.restore(controller.p(), controller.integral_state());
    controller.update(5), other.update(5);
    EXPECT_EQ(other.p(), controller.p());
}

TEST(MeanController, RefusesBadSettings) {
    EXPECT_THROW(MeanController({.target = 0}), Error);
    EXPECT_THROW(MeanController({.target = 9, .num_experts = 8}), Error);
    EXPECT_THROW(MeanController({.target = 1, .start = std::nan("")}), Error);
    EXPECT_THROW(MeanController({.target = 1, .low = 0.5, .high = 0.4}), Error);
    EXPECT_THROW(MeanController({.target = 1, .integral = -1}), Error);
}

}  // namespace
}  // namespace muster
