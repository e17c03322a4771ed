// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "muster/cli/engine.h"
#include "muster/generate/sampler.h"

namespace muster::cli {

/// `muster run`: continue a text.
struct RunOptions {
    ModelOptions model;
    EngineOptions engine;
    TextOptions text;
    std::string routing = "model";
    std::string color = "none";  ///< `experts` or `none`
    int context = 0;             ///< 0: the model's
    int tokens = -1;             ///< -1: until the end of the text or of the context
    SamplerOptions sampler;
    std::optional<uint64_t> seed;  ///< none: drawn, and shown with the statistics
    bool ignore_end = false;
    bool echo = false;            ///< write the prompt before its continuation
    bool quiet = false;           ///< no statistics
    std::filesystem::path stats;  ///< counts are added to this file; empty: none
    std::string prompt_cache;     ///< read when it exists, written afterwards
    bool json = false;
};

/// Streams the continuation to `out`, statistics to `err`. Gives the exit code: 130 after Ctrl-C.
/// Throws Error.
int run_command(const RunOptions& options, Terminal& terminal);

}  // namespace muster::cli
