// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "muster/cli/engine.h"
#include "muster/generate/sampler.h"

namespace muster::cli {

/// `muster batch`: answer a file of requests, each under its own policy, in shared passes.
struct BatchOptions {
    ModelOptions model;
    EngineOptions engine;
    std::string requests;           ///< one JSON object a line; `-`: standard input
    std::string output;             ///< a file, written at the end; empty: standard output
    std::string routing = "model";  ///< of requests that name none
    std::vector<std::filesystem::path> plans;  ///< that requests may name, as they stand here
    std::string chat_template;                 ///< a file to use instead of the model's template
    int sequences = 8;                         ///< requests worked on at once
    int context = 0;               ///< most tokens of each; 0: the model's, or what fits
    int tokens = -1;               ///< most of an answer; -1: until it ends
    SamplerOptions sampler;        ///< of requests that do not say otherwise
    std::optional<uint64_t> seed;  ///< none: drawn
    bool ignore_end = false;
    std::filesystem::path stats;  ///< statistics are added to it; empty: none
    bool quiet = false;           ///< no statistics
};

/// Writes an answer a line, as they are done. A line that cannot be answered is reported on `err`
/// and in its place in the output, the others are answered, and the exit code is 1; after Ctrl-C
/// what is done is kept, and it is 130. Throws Error when the model cannot be loaded or files
/// cannot be read or written.
int batch_command(const BatchOptions& options, Terminal& terminal);

}  // namespace muster::cli
