// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/color.h"

#include <gmock/gmock.h>

#include <regex>

#include "muster/model/testing.h"

namespace muster::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Ramp, LightnessRisesEvenly) {
    double before = lightness(ramp_color(0));
    for (int i = 1; i <= 20; ++i) {
        const double now = lightness(ramp_color(i / 20.0));
        // The ramp spans 0.60 of lightness; rounding to 8 bits and clipping may bend it a little.
        EXPECT_NEAR(now - before, 0.03, 0.012) << i;
        before = now;
    }
    EXPECT_EQ(ramp_color(-1), ramp_color(0));
    EXPECT_EQ(ramp_color(2), ramp_color(1));
}

TEST(Ramp, PaletteStepsRiseStrictly) {
    for (int i = 1; i < kAnsiSteps; ++i) {
        const int darker = ramp_ansi256((i - 1) / double{kAnsiSteps - 1});
        const int lighter = ramp_ansi256(i / double{kAnsiSteps - 1});
        EXPECT_LT(lightness(ansi256_rgb(darker)), lightness(ansi256_rgb(lighter))) << i;
    }
}

TEST(Paint, LeavesLineFeedsAlone) {
    const std::string text = paint("ab\n\ncd", 0.5, ColorDepth::ansi256);
    EXPECT_THAT(text, HasSubstr("mab\033[0m\n\n\033["));
    EXPECT_TRUE(text.ends_with("mcd\033[0m"));
    EXPECT_EQ(paint("\n", 0.5, ColorDepth::truecolor), "\n");
    EXPECT_EQ(paint("", 0.5, ColorDepth::truecolor), "");
    EXPECT_EQ(paint("ab\n", 0.5, ColorDepth::none), "ab\n");
}

TEST(Paint, TextStandsOutOnEveryBackground) {
    EXPECT_THAT(paint("x", 0, ColorDepth::truecolor), HasSubstr("38;2;255;255;255"));
    EXPECT_THAT(paint("x", 1, ColorDepth::truecolor), HasSubstr("38;2;0;0;0"));
    EXPECT_THAT(paint("x", 0, ColorDepth::ansi256), HasSubstr("38;5;231"));
    EXPECT_THAT(paint("x", 1, ColorDepth::ansi256), HasSubstr("38;5;16"));
}

TEST(Scale, ReachesBeyondTheUsualNumber) {
    ModelConfig config = testing::tiny_olmoe();  // six experts, two per token
    EXPECT_EQ(expert_scale(config, {}).high, 3.5);
    EXPECT_EQ(expert_scale(config, RoutingPolicy::parse("top-k:1")).high, 2);
    EXPECT_EQ(expert_scale(config, RoutingPolicy::parse("top-k:5")).high, 6);
    config.mean_experts = {1.5, 1.5, 1.5};
    EXPECT_EQ(expert_scale(config, RoutingPolicy::parse("top-p:0.5")).high, 3);
    const ExpertScale scale{1, 3};
    EXPECT_EQ(scale.position(0), 0);
    EXPECT_EQ(scale.position(2), 0.5);
    EXPECT_EQ(scale.position(9), 1);
}

TEST(Legend, ShowsTheEnds) {
    const std::string text = legend({1, 8}, ColorDepth::ansi256);
    EXPECT_THAT(text, HasSubstr(" 1.0 "));
    EXPECT_THAT(text, HasSubstr(" 8.0+ "));
    EXPECT_EQ(text.find('\n'), std::string::npos);
}

TEST(Environment, ColorDepths) {
    using enum ColorDepth;
    EXPECT_EQ(depth_unasked({nullptr, nullptr, "xterm"}, true), ansi256);
    EXPECT_EQ(depth_unasked({nullptr, "truecolor", "xterm"}, true), truecolor);
    EXPECT_EQ(depth_unasked({nullptr, "truecolor", "xterm"}, false), none);
    EXPECT_EQ(depth_unasked({"1", "truecolor", "xterm"}, true), none);
    EXPECT_EQ(depth_unasked({"", "truecolor", "xterm"}, true), truecolor);  // empty: not set
    EXPECT_EQ(depth_unasked({nullptr, nullptr, "dumb"}, true), none);
    EXPECT_EQ(depth_unasked({nullptr, nullptr, nullptr}, true), none);
    EXPECT_EQ(depth_when_asked({"1", nullptr, "dumb"}), ansi256);
}

TEST(Controls, CannotSteerTheTerminal) {
    EXPECT_EQ(without_controls("a\033[2Jb\tc\n"), "a\uFFFD[2Jb\tc\n");
    EXPECT_EQ(without_controls("\u009B2J\r\x7F"), "\uFFFD2J\uFFFD\uFFFD");
    EXPECT_EQ(without_controls("é漢\xFF"), "é漢\uFFFD");
}

}  // namespace
}  // namespace muster::cli
