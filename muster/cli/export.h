// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "muster/cli/terminal.h"

namespace muster::cli {

/// `muster export`: a training checkpoint as GGUF or as a Hugging Face directory.
struct ExportOptions {
    std::filesystem::path checkpoint;  ///< or a run's directory: its newest checkpoint
    std::filesystem::path output;
    std::string type = "f16";  ///< f32, f16, bf16, q8_0
    std::string format;        ///< gguf, hf; empty: hf when the output names a directory
    bool json = false;
};

/// The checkpoint that `path` means: itself, or the newest below `path`/checkpoints.
std::filesystem::path resolve_checkpoint(const std::filesystem::path& path);

/// Throws Error.
int export_command(const ExportOptions& options, Terminal& terminal);

}  // namespace muster::cli
