// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "muster/checkpoint/hf_model.h"
#include "muster/checkpoint/weight_map.h"

namespace muster {

/// A model wherever it lies: a GGUF file, a part of a split one (open_gguf), or a Hugging Face
/// directory (open_hf, read_huggingface_tokenizer). `use` matters for directories. Throws Error as
/// those do, and when there is nothing at `path`.
WeightMap open_model(const std::filesystem::path& path, HfUse use);

}  // namespace muster
