// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "muster/cli/engine.h"

namespace muster::cli {

/// `muster trace`: write what was routed where, token by token.
struct TraceOptions {
    ModelOptions model;
    EngineOptions engine;
    std::vector<std::filesystem::path> files;
    std::filesystem::path output;
    std::string routing = "model";
    std::filesystem::path stats;
    int window = 0;
    int64_t tokens = 0;  ///< 0: all
    bool json = false;
};

/// Throws Error; then there is no output.
int trace_command(const TraceOptions& options, Terminal& terminal);

}  // namespace muster::cli
