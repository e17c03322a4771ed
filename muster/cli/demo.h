// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "muster/cli/inputs.h"

namespace muster::cli {

/// `muster demo`: text coloured by experts, then routing policies compared on the held-out texts,
/// then an atlas of experts on these.
struct DemoOptions {
    ModelOptions model{"default"};
    std::vector<std::string> prompts;  ///< empty: a few that suit the default model
    std::vector<std::string> routing{"model", "top-k:1", "top-k:2", "top-p:0.3", "top-p:0.6"};
    int tokens = 64;                                    ///< written after each prompt
    std::string color = "auto";                         ///< auto, experts, none
    std::filesystem::path atlas = "muster-atlas.html";  ///< of the held-out texts
    bool json = false;
};

/// Throws Error.
int demo_command(const DemoOptions& options, Terminal& terminal);

}  // namespace muster::cli
