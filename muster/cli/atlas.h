// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "muster/cli/engine.h"

namespace muster::cli {

/// `muster atlas`: write a page that shows the experts at work on texts.
struct AtlasOptions {
    ModelOptions model;
    EngineOptions engine;
    std::vector<std::filesystem::path> files;
    std::filesystem::path output;
    std::vector<std::string> routing;  ///< the first is shown, all are compared
    std::filesystem::path plan;        ///< shown; empty: the first of `routing` that is plan:FILE
    std::filesystem::path stats;
    int window = 0;
    int64_t tokens = 0;  ///< 0: all
    bool json = false;
};

/// Throws Error; then there is no output.
int atlas_command(const AtlasOptions& options, Terminal& terminal);

}  // namespace muster::cli
