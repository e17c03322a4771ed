// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "muster/cli/inputs.h"

namespace muster::cli {

/// `muster imatrix`: how much each input of each weight matrix matters on a text.
struct ImatrixOptions {
    ModelOptions model;
    std::vector<std::filesystem::path> files;
    std::filesystem::path output;
    std::vector<std::filesystem::path> in_files;  ///< earlier results to add
    std::string routing = "model";
    std::string compute = "f32";  ///< f32 or bf16
    int window = 512;
    int64_t from_chunk = 0;
    int64_t chunks = 0;  ///< 0: all
    bool process_head = false;
    bool own_only = false;  ///< lend nothing to experts that the router never chose
    bool json = false;
};

/// Gives the exit code: 130 after Ctrl-C, when the output holds what was done. Throws Error.
int imatrix_command(const ImatrixOptions& options, Terminal& terminal);

}  // namespace muster::cli
