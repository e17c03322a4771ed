// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "muster/core/stats.h"

namespace muster::cli {

/// Columns that UTF-8 text takes on a terminal: combining marks none, East Asian wide characters
/// and emoji two.
int display_width(std::string_view text);

/// Fixed notation with as many decimals as `digits` significant digits need, at least none: 1234,
/// 12.3, 0.0123. Not finite: "-".
std::string significant(double value, int digits = 3);

/// 950, 13.1 k, 1.20 M, 7.00 G.
std::string count_text(double value);
/// 512 B, 14.2 MB, 1.20 GB; powers of 1000.
std::string bytes_text(double value);
/// 0:05, 1:02:03.
std::string clock_text(double seconds);
/// +0.0123 [+0.0101, +0.0145].
std::string interval_text(const Interval& interval);
/// What the bootstrap drew, e.g. "1 document" of 1 and the plural.
std::string units_text(int64_t units, const std::string& unit);
/// 1 token, 2 tokens.
std::string plural(int64_t n, std::string_view noun);

}  // namespace muster::cli
