// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>

#include "muster/cli/terminal.h"

namespace muster::cli {

/// The whole program but its process: reads the words after the program's name, runs the command
/// and reports errors as one sentence on `err`. Gives the exit code: 0; 1 for errors of files and
/// input; 2 for a wrong command line; 130 after Ctrl-C. Never throws.
int run_program(std::span<const std::string> words, Terminal& terminal);

}  // namespace muster::cli
