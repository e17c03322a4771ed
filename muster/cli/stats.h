// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

#include "muster/cli/terminal.h"

namespace muster::cli {

/// `muster stats`: merge files of routing statistics, show them, export them.
struct StatsOptions {
    std::vector<std::filesystem::path> files;
    std::filesystem::path output;  ///< of the merged statistics; empty: none
    std::filesystem::path csv;     ///< a line per layer and expert; empty: none
    bool json = false;
};

/// Throws Error.
int stats_command(const StatsOptions& options, Terminal& terminal);

}  // namespace muster::cli
