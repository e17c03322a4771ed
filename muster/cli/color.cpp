// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/color.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>

#include "muster/cli/text.h"

namespace muster::cli {
namespace {

struct Lab {
    double l, a, b;
};

double to_linear(uint8_t c) {
    const double v = c / 255.0;
    return v <= 0.04045 ? v / 12.92 : std::pow((v + 0.055) / 1.055, 2.4);
}

uint8_t from_linear(double v) {
    v = std::clamp(v, 0.0, 1.0);
    const double s = v <= 0.0031308 ? 12.92 * v : 1.055 * std::pow(v, 1 / 2.4) - 0.055;
    return static_cast<uint8_t>(std::lround(s * 255));
}

// The matrices of Ottosson's definition of OKLab, sRGB primaries.
Lab to_oklab(Rgb c) {
    const double r = to_linear(c.r), g = to_linear(c.g), b = to_linear(c.b);
    const double l = std::cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
    const double m = std::cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
    const double s = std::cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
    return {0.2104542553 * l + 0.7936177850 * m - 0.0040720468 * s,
            1.9779984951 * l - 2.4285922050 * m + 0.4505937099 * s,
            0.0259040371 * l + 0.7827717662 * m - 0.8086757660 * s};
}

Rgb from_oklab(const Lab& c) {
    const auto cube = [](double v) { return v * v * v; };
    const double l = cube(c.l + 0.3963377774 * c.a + 0.2158037573 * c.b);
    const double m = cube(c.l - 0.1055613458 * c.a - 0.0638541728 * c.b);
    const double s = cube(c.l - 0.0894841775 * c.a - 1.2914855480 * c.b);
    return {from_linear(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
            from_linear(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
            from_linear(-0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s)};
}

// The entries nearest in OKLab to seven even steps of ramp_color. Entries 0 to 15 belong to the
// user's theme and are not used.
constexpr std::array<int, kAnsiSteps> kAnsiRamp{18, 24, 31, 36, 42, 149, 227};

/// What a policy's own text says it takes per token; 0 when it leaves that to the scores.
double stated_experts(const RoutingPolicy& policy) {
    const bool counts = policy.selection == Selection::top_k ||
                        policy.selection == Selection::mean ||
                        policy.selection == Selection::random;
    if (!counts || policy.values.empty()) return 0;
    return *std::max_element(policy.values.begin(), policy.values.end());
}

double usual_experts(const ModelConfig& config) {
    double sum = 0;
    int layers = 0;
    for (int l = 0; l < config.num_layers(); ++l) {
        const FeedForwardConfig& layer = config.layers[l];
        if (layer.dense()) continue;
        ++layers;
        if (!config.mean_experts.empty()) {
            sum += config.mean_experts[l];
        } else if (layer.router.selection == Selection::top_k) {
            sum += layer.router.value;
        } else {
            sum += std::sqrt(layer.experts());  // nothing known: the geometric middle
        }
    }
    return layers == 0 ? 1 : sum / layers;
}

}  // namespace

double lightness(Rgb color) { return to_oklab(color).l; }

Rgb ramp_color(double t) {
    t = std::clamp(t, 0.0, 1.0);
    // Hue falls from blue (265 degrees) to yellow (105); the chroma stays where sRGB has room.
    const double hue = (265 - 160 * t) * std::numbers::pi / 180;
    const double chroma = 0.14 + 0.02 * t;
    return from_oklab({0.34 + 0.59 * t, chroma * std::cos(hue), chroma * std::sin(hue)});
}

Rgb ansi256_rgb(int index) {
    if (index >= 232) {
        const auto grey = static_cast<uint8_t>(8 + 10 * (index - 232));
        return {grey, grey, grey};
    }
    const int i = index - 16;
    const auto level = [](int v) { return static_cast<uint8_t>(v == 0 ? 0 : 55 + 40 * v); };
    return {level(i / 36), level(i / 6 % 6), level(i % 6)};
}

int ramp_ansi256(double t) {
    const auto step = static_cast<int>(std::clamp(t, 0.0, 1.0) * kAnsiSteps);
    return kAnsiRamp[std::min(step, kAnsiSteps - 1)];
}

double ExpertScale::position(double experts) const noexcept {
    return high > low ? std::clamp((experts - low) / (high - low), 0.0, 1.0) : 0.0;
}

ExpertScale expert_scale(const ModelConfig& config, const RoutingPolicy& policy) {
    int most = 1;
    for (const FeedForwardConfig& layer : config.layers) most = std::max(most, layer.experts());
    const bool default_policy = policy.selection == Selection::model;
    double usual = stated_experts(default_policy ? config.policy : policy);
    if (usual <= 0) usual = usual_experts(config);
    // Means over layers stay near the usual number; halves keep the legend readable.
    const double high = std::ceil(2 * 1.75 * usual) / 2;
    return {1, std::clamp(high, 2.0, std::max(2.0, double(most)))};
}

std::string paint(std::string_view text, double t, ColorDepth depth) {
    if (depth == ColorDepth::none) return std::string(text);
    std::string on;
    if (depth == ColorDepth::truecolor) {
        const Rgb c = ramp_color(t);
        on = fmt::format("48;2;{};{};{}", c.r, c.g, c.b);
        on += lightness(c) > 0.6 ? ";38;2;0;0;0" : ";38;2;255;255;255";
    } else {
        const int index = ramp_ansi256(t);
        on = fmt::format("48;5;{}", index);
        on += lightness(ansi256_rgb(index)) > 0.6 ? ";38;5;16" : ";38;5;231";
    }
    std::string out;
    while (!text.empty()) {
        const size_t end = std::min(text.find('\n'), text.size());
        if (end > 0) out += fmt::format("\033[{}m{}\033[0m", on, text.substr(0, end));
        if (end < text.size()) out += '\n';
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return out;
}

std::string legend(const ExpertScale& scale, ColorDepth depth) {
    std::string out = "experts per token, mean over layers: ";
    for (int i = 0; i < kAnsiSteps; ++i) {
        const double t = i / double{kAnsiSteps - 1};
        const std::string number = significant(scale.low + t * (scale.high - scale.low), 2);
        const bool last = i + 1 == kAnsiSteps;
        out += paint(fmt::format(" {}{} ", number, last ? "+" : ""), t, depth);
    }
    return out;
}

std::string bold(std::string_view text, ColorDepth depth) {
    return depth == ColorDepth::none ? std::string(text) : fmt::format("\033[1m{}\033[0m", text);
}

}  // namespace muster::cli
