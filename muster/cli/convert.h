// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "muster/cli/terminal.h"

namespace muster::cli {

/// `muster convert`: a model between Hugging Face directories and GGUF files.
struct ConvertOptions {
    std::filesystem::path input;
    std::filesystem::path output;  ///< NAME.gguf, or a directory
    uint64_t max_shard_bytes = 0;  ///< 0: one file; of directories: 5 GB
    std::string type;              ///< of a directory's tensors; empty: bf16
    bool json = false;
};

/// Throws Error.
int convert_command(const ConvertOptions& options, Terminal& terminal);

}  // namespace muster::cli
