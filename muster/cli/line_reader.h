// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "muster/cli/terminal.h"

namespace muster::cli {

/// Where the lines of a conversation come from.
class LineReader {
  public:
    enum class Got { line, interrupted, end };

    virtual ~LineReader() = default;
    /// Shows `prompt` where people type and reads a line, without its line feed. `interrupted`: by
    /// Ctrl-C, what was typed is forgotten.
    virtual Got read(const std::string& prompt, std::string& line) = 0;
};

/// With editing and a history (libedit, where the program was built with it) when both `in` and
/// `out` are the process's terminal; plain lines of `in` otherwise. The terminal outlives it.
std::unique_ptr<LineReader> make_line_reader(Terminal& terminal);

}  // namespace muster::cli
