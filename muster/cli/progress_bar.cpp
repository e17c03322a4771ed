// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/progress_bar.h"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>

#include "muster/cli/text.h"

namespace muster::cli {
namespace {

constexpr double kPatience = 0.5;    ///< seconds before anything is shown
constexpr double kRedraw = 0.1;      ///< seconds between two drawings on a terminal
constexpr double kPlainLine = 10.0;  ///< seconds between two lines elsewhere

double seconds_between(std::chrono::steady_clock::time_point a,
                       std::chrono::steady_clock::time_point b) {
    return std::chrono::duration<double>(b - a).count();
}

std::string rate_text(double rate) {
    return (rate < 999.5 ? significant(rate) : count_text(rate)) + "/s";
}

}  // namespace

Progress ProgressBar::callback() {
    return [this](std::string_view what, int64_t done, int64_t total) {
        return report(what, done, total);
    };
}

std::string ProgressBar::line(std::string_view what, int64_t done, int64_t total, double seconds,
                              int columns) {
    std::string text = std::string(what) + ": ";
    const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
    if (total > 0) {
        const double share = std::clamp(static_cast<double>(done) / double(total), 0.0, 1.0);
        text += fmt::format("{:3.0f} %", 100 * share);
        std::string rest = "  " + rate_text(rate);
        if (rate > 0) rest += ", " + clock_text(double(total - done) / rate) + " left";
        const int room = std::min(30, columns - display_width(text) - display_width(rest) - 4);
        if (room >= 8) {
            const int full = static_cast<int>(share * room);
            text += "  ";
            for (int i = 0; i < room; ++i) text += i < full ? "█" : "░";
        }
        text += rest;
    } else {
        text += count_text(double(done)) + ", " + rate_text(rate);
    }
    return text;
}

bool ProgressBar::report(std::string_view what, int64_t done, int64_t total) {
    const auto now = Clock::now();
    if (what != what_) {
        what_ = what;
        started_ = drawn_ = now;
    }
    const double interval = terminal_.err_is_terminal ? kRedraw : kPlainLine;
    const double elapsed = seconds_between(started_, now);
    if (elapsed >= kPatience && seconds_between(drawn_, now) >= interval) {
        drawn_ = now;
        const int columns = terminal_.err_is_terminal ? terminal_.columns : 0;  // 0: no bar
        const std::string text = line(what, done, total, elapsed, columns);
        if (terminal_.err_is_terminal) {
            terminal_.err << "\r\033[K" << text << std::flush;
            visible_ = true;
        } else {
            terminal_.err << text << std::endl;
        }
    }
    return !terminal_.stop();
}

void ProgressBar::clear() {
    if (visible_) terminal_.err << "\r\033[K" << std::flush;
    visible_ = false;
}

}  // namespace muster::cli
