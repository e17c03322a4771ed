// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

#include "muster/model/memory.h"

namespace muster::cli {

/// How many colours a terminal shows.
enum class ColorDepth { none, ansi256, truecolor };

/// What a command talks to: streams, what they are, and where the program and its data stand. The
/// streams outlive it. Commands write results to `out` and everything else to `err`.
struct Terminal {
    std::istream& in;
    std::ostream& out;
    std::ostream& err;
    int in_descriptor = -1;  ///< behind `in`, to be waited for with poll(2); -1: `in` never waits
    bool in_is_terminal = false;
    bool out_is_terminal = false;
    bool err_is_terminal = false;
    ColorDepth colors = ColorDepth::none;             ///< to be used on `out` unasked
    ColorDepth when_asked = ColorDepth::ansi256;      ///< to be used when the user asks for colour
    int columns = 80;                                 ///< width of `err`, for progress
    std::filesystem::path executable{};               ///< of this program; may be empty
    std::vector<std::filesystem::path> data_paths{};  ///< searched in order for the shipped files

    /// Ctrl-C was pressed. May be empty.
    std::function<bool()> interrupted{};
    /// Whoever read `out` went away: not an error. May be empty.
    std::function<bool()> reader_gone{};
    /// Forgets the Ctrl-C, so that the next one stops the next work. May be empty.
    std::function<void()> forget_interrupt{};
    /// What may still be taken (model/memory.h); empty: what the system says.
    std::function<FreeMemory()> free_memory{};

    /// Whether long work should stop.
    bool stop() const { return (interrupted && interrupted()) || (reader_gone && reader_gone()); }
};

/// The terminal's depth after the environment: NO_COLOR (no-color.org), COLORTERM, TERM. A null
/// pointer stands for an unset variable.
struct ColorEnvironment {
    const char* no_color = nullptr;
    const char* colorterm = nullptr;
    const char* term = nullptr;
};
ColorDepth depth_unasked(const ColorEnvironment& environment, bool is_terminal);
ColorDepth depth_when_asked(const ColorEnvironment& environment);

/// `text` with control characters other than line feed and tab shown as U+FFFD, so that what a
/// model writes cannot steer a terminal.
std::string without_controls(std::string_view text);

}  // namespace muster::cli
