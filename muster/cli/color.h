// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "muster/cli/terminal.h"
#include "muster/model/config.h"
#include "muster/routing/policy.h"

namespace muster::cli {

struct Rgb {
    uint8_t r = 0, g = 0, b = 0;
    bool operator==(const Rgb&) const = default;
};

/// OKLab lightness in [0, 1] (Ottosson 2020, "A perceptual color space for image processing").
double lightness(Rgb color);

/// The colour of t in [0, 1]: dark blue over green to light yellow; lightness rises evenly, so that
/// the order survives colour blindness and grey printing.
Rgb ramp_color(double t);

/// What stands for ramp_color(t) in the palette of 256 colours: one of kAnsiSteps entries, whose
/// lightness rises strictly.
inline constexpr int kAnsiSteps = 7;
int ramp_ansi256(double t);

/// The colour of entry 16 to 255 of the palette of 256.
Rgb ansi256_rgb(int index);

/// From how many experts per token to how many the ramp reaches. Beyond the ends it saturates.
struct ExpertScale {
    double low = 1;
    double high = 2;
    double position(double experts) const noexcept;  ///< in [0, 1]
};

/// From 1 to 1.75 times what the policy (or, where it does not say, the model) usually takes,
/// rounded up to halves, at least 2, at most all experts.
ExpertScale expert_scale(const ModelConfig& config, const RoutingPolicy& policy);

/// `text` on a background of its place on the ramp, black or white by the better contrast. Line
/// feeds stay unpainted, so that the background does not run over the rest of a line.
std::string paint(std::string_view text, double t, ColorDepth depth);

/// One line: the scale's steps as painted cells with their numbers.
std::string legend(const ExpertScale& scale, ColorDepth depth);

/// Bold text, or as it is without colours.
std::string bold(std::string_view text, ColorDepth depth);

}  // namespace muster::cli
