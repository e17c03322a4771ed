// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "muster/tokenizer/utf8.h"

namespace muster::cli {
namespace {

struct Range {
    uint32_t first, last;
};

// Unicode 15: general categories Mn and Me of the common blocks, and format characters.
constexpr std::array kZeroWidth{Range{0x0300, 0x036F}, Range{0x0483, 0x0489}, Range{0x0591, 0x05BD},
                                Range{0x064B, 0x065F}, Range{0x0E34, 0x0E3A}, Range{0x0E47, 0x0E4E},
                                Range{0x1AB0, 0x1AFF}, Range{0x1DC0, 0x1DFF}, Range{0x200B, 0x200F},
                                Range{0x2060, 0x2064}, Range{0x20D0, 0x20FF}, Range{0xFE00, 0xFE0F},
                                Range{0xFE20, 0xFE2F}, Range{0xFEFF, 0xFEFF}};

// Unicode 15, EastAsianWidth W and F, blocks joined where only unassigned code points lie between.
constexpr std::array kWide{
    Range{0x1100, 0x115F},   Range{0x2E80, 0x303E},   Range{0x3041, 0xA4CF},
    Range{0xA960, 0xA97C},   Range{0xAC00, 0xD7A3},   Range{0xF900, 0xFAFF},
    Range{0xFE30, 0xFE6F},   Range{0xFF00, 0xFF60},   Range{0xFFE0, 0xFFE6},
    Range{0x1F300, 0x1F64F}, Range{0x1F680, 0x1F6FF}, Range{0x1F900, 0x1F9FF},
    Range{0x20000, 0x3FFFD}};

template <size_t N>
bool contains(const std::array<Range, N>& ranges, uint32_t c) {
    return std::any_of(ranges.begin(), ranges.end(),
                       [c](const Range& r) { return r.first <= c && c <= r.last; });
}

std::string scaled(double value, std::string_view unit, bool plain_below_1000) {
    static constexpr std::array<std::string_view, 5> kPrefix{"", "k", "M", "G", "T"};
    size_t i = 0;
    double v = value;
    // 999.5 and above would print as 1000 of the smaller unit.
    while (std::abs(v) >= 999.5 && i + 1 < kPrefix.size()) v /= 1000, ++i;
    const std::string number =
        i == 0 && plain_below_1000 ? fmt::format("{:.0f}", v) : significant(v, 3);
    const std::string suffix = std::string(kPrefix[i]) + std::string(unit);
    return suffix.empty() ? number : number + " " + suffix;
}

}  // namespace

int display_width(std::string_view text) {
    int width = 0;
    while (!text.empty()) {
        const Utf8Step step = next_utf8(text);
        const uint32_t c = step.code_point;
        const bool none = c < 0x20 || (c >= 0x7F && c < 0xA0) || contains(kZeroWidth, c);
        if (!none) width += contains(kWide, c) ? 2 : 1;
        text.remove_prefix(step.bytes);
    }
    return width;
}

std::string significant(double value, int digits) {
    if (!std::isfinite(value)) return "-";
    if (value == 0) return "0";
    // Rounding first: 9.996 with three digits is 10.0, not 10.00.
    const double power = std::floor(std::log10(std::abs(value)));
    const double unit = std::pow(10.0, power - digits + 1);
    const double rounded = std::round(value / unit) * unit;
    const int magnitude = static_cast<int>(std::floor(std::log10(std::abs(rounded)) + 1e-9));
    return fmt::format("{:.{}f}", rounded, std::clamp(digits - 1 - magnitude, 0, 12));
}

std::string count_text(double value) {
    return std::isfinite(value) ? scaled(value, "", true) : "-";
}

std::string bytes_text(double value) {
    return std::isfinite(value) ? scaled(value, "B", true) : "-";
}

std::string clock_text(double seconds) {
    const auto s = static_cast<int64_t>(std::clamp(seconds, 0.0, 1e9));
    return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                    : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

std::string interval_text(const Interval& interval) {
    const auto end = [](double x) {
        return std::isfinite(x) ? fmt::format("{:+.4f}", x) : std::string("-");
    };
    return fmt::format("{:+.4f} [{}, {}]", interval.mean, end(interval.low), end(interval.high));
}

std::string units_text(int64_t units, const std::string& unit) {
    if (units != 1) return fmt::format("{} {}", units, unit);
    const size_t word = unit.find(' ');  // "blocks of 256 tokens", "documents"
    const std::string first = unit.substr(0, word);
    return "1 " + first.substr(0, first.size() - 1) +
           (word == std::string::npos ? "" : unit.substr(word));
}

std::string plural(int64_t n, std::string_view noun) {
    return fmt::format("{} {}{}", n, noun, n == 1 ? "" : "s");
}

}  // namespace muster::cli
