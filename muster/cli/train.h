// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "muster/cli/terminal.h"

namespace muster::cli {

/// `muster train`: everything after the word `train`, for muster-train to judge.
struct TrainOptions {
    std::vector<std::string> arguments;
};

/// muster-train beside `executable`, else in a directory of `search_path` (as in $PATH).
std::optional<std::filesystem::path> find_trainer(const std::filesystem::path& executable,
                                                  std::string_view search_path);

/// Becomes muster-train; does not return when that succeeds. Throws Error naming what to install.
int train_command(const TrainOptions& options, Terminal& terminal);

}  // namespace muster::cli
