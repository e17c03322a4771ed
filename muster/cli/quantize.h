// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "muster/cli/terminal.h"

namespace muster::cli {

/// `muster quantize`: a model file with its matrices in other formats.
struct QuantizeOptions {
    std::filesystem::path input;
    std::filesystem::path output;
    std::string type = "Q4_K_M";
    std::filesystem::path importance;  ///< empty: none
    bool pure = false;
    bool allow_requantize = false;
    bool tensors = false;  ///< list every tensor
    int threads = 0;       ///< 0: all
    bool json = false;
};

/// Throws Error.
int quantize_command(const QuantizeOptions& options, Terminal& terminal);

}  // namespace muster::cli
