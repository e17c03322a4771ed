// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "muster/cli/engine.h"

namespace muster::cli {

/// `muster tune`: the cheapest policy within an allowed rise of the perplexity.
struct TuneCommandOptions {
    ModelOptions model;
    EngineOptions engine;
    std::vector<std::filesystem::path> files;
    std::string max_perplexity = "+1%";
    std::filesystem::path output;  ///< the evidence as JSON; empty: none
    bool global_only = false;      ///< no numbers layer by layer
    int64_t tokens = 20000;        ///< of either half; 0: all
    int window = 0;
    int steps = 6;
    double confidence = 0.95;
    bool json = false;
};

/// Gives the exit code. Throws Error.
int tune_command(const TuneCommandOptions& options, Terminal& terminal);

}  // namespace muster::cli
