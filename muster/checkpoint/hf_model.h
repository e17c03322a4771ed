// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>

#include "muster/checkpoint/weight_map.h"

namespace muster {

/// What a directory is opened for.
enum class HfUse : uint8_t {
    /// Every tensor has a place: a view of the mapped files where it lies there as it is, else one
    /// that has no content yet (WeightMap::add_made). Experts that lie apart are tensors of their
    /// own, `blk.N.ffn_gate.E.weight`.
    run,
    /// Names and shapes are those of a GGUF file that llama.cpp writes; tensors that have to be put
    /// together are made when WeightMap::rows() asks for them.
    convert
};

/// The model of a Hugging Face directory (config.json, and model.safetensors or its shards) under
/// GGUF's keys and names: families in hf_family.h. Weights stay in the format of the files (f32,
/// f16, bf16; gpt-oss's MXFP4); vectors and routers become f32. Without tokenizer.* keys.
/// Untrusted input. Throws Error naming file and key or tensor: damage, a setting that is not
/// supported, a tensor that is missing, has another shape, or is not known.
WeightMap open_hf(const std::filesystem::path& directory, HfUse use);

}  // namespace muster
