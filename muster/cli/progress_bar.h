// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "muster/cli/terminal.h"
#include "muster/core/progress.h"

namespace muster::cli {

/// Shows long work on `terminal.err`: on a terminal one line with a bar, a rate and the remaining
/// time, drawn at most ten times a second and removed at the end; elsewhere a plain line every ten
/// seconds. Work that ends within half a second shows nothing. Ctrl-C asks the work to stop.
class ProgressBar {
  public:
    explicit ProgressBar(Terminal& terminal) : terminal_(terminal) {}
    ~ProgressBar() { clear(); }
    ProgressBar(const ProgressBar&) = delete;
    ProgressBar& operator=(const ProgressBar&) = delete;

    /// The callback to hand to the work; it refers to this object.
    Progress callback();
    /// Removes the line, before something else is written.
    void clear();

    /// The line for `done` of `total` (0: unknown) after `seconds`; the bar is left out where
    /// `columns` have no room for it.
    static std::string line(std::string_view what, int64_t done, int64_t total, double seconds,
                            int columns);

  private:
    using Clock = std::chrono::steady_clock;
    bool report(std::string_view what, int64_t done, int64_t total);

    Terminal& terminal_;
    std::string what_;
    Clock::time_point started_;
    Clock::time_point drawn_;
    bool visible_ = false;
};

}  // namespace muster::cli
