// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "muster/checkpoint/weight_map.h"
#include "muster/core/progress.h"

namespace muster {

struct HfWriteOptions {
    /// f32, f16 or bf16, of all tensors. None: each keeps its own, and bf16 stands for block
    /// formats.
    std::optional<DType> dtype;
    uint64_t max_shard_bytes = 5'000'000'000;  ///< as transformers does
};

/// Writes config.json and model.safetensors (or shards and their index) of a model with GGUF's keys
/// and names into `directory`, which exists: open_hf() the other way round. Block formats are
/// decoded; gpt-oss's experts stay MXFP4 where all of them are. All tensors have data. Memory: a
/// few megabytes. Throws Error when transformers cannot express the model, when a tensor is
/// missing, of another shape, or holds NaN, infinity or a value too large for its format, or the
/// progress stops.
void write_hf(const WeightMap& model, const std::filesystem::path& directory,
              const HfWriteOptions& options, const Progress& progress = {});

}  // namespace muster
