// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>

#include "muster/core/dtype.h"
#include "muster/tokenizer/tokenizer.h"
#include "tools/make_checkpoint/spec.h"

namespace muster::checkpoints {

struct HfOptions {
    DType dtype = DType::f32;      ///< f32, f16 or bf16, of all tensors
    bool mxfp4_experts = false;    ///< gpt-oss: as it is published
    uint64_t max_shard_bytes = 0;  ///< 0: one file; else shards and their index
};

/// Writes the Hugging Face directory of a checked specification: config.json, safetensors,
/// tokenizer.json and tokenizer_config.json. The values are those that write_gguf() has, in the
/// names and layouts of transformers, which are written down here once more, so that they check
/// muster/checkpoint/hf_*. One tensor is in memory at a time. Throws Error when it cannot be
/// written.
void write_hf(const CheckpointSpec& spec, const Vocabulary& vocabulary, const HfOptions& options,
              const std::filesystem::path& directory);

}  // namespace muster::checkpoints
