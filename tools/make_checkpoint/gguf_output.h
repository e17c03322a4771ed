// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "muster/tokenizer/tokenizer.h"
#include "tools/make_checkpoint/formats.h"

namespace muster::checkpoints {

/// A vocabulary of `size` pieces: the first ones of `vocabulary` when it has more, unused ones
/// behind it when it has fewer.
Vocabulary fitted(Vocabulary vocabulary, int size);

struct GgufOptions {
    FileType type;
    bool random_blocks = false;    ///< make blocks as they come instead of encoding f32 values
    uint64_t max_shard_bytes = 0;  ///< 0: one file; else `NAME-00001-of-0000N.gguf`
};

/// Writes a GGUF file of a checked specification, tensor by tensor, under llama.cpp's names and
/// keys. Returns the paths of its parts. Throws Error when it cannot be written.
std::vector<std::filesystem::path> write_gguf(const CheckpointSpec& spec,
                                              const Vocabulary& vocabulary,
                                              const GgufOptions& options,
                                              const std::filesystem::path& path);

}  // namespace muster::checkpoints
