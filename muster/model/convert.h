// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "muster/checkpoint/gguf.h"
#include "muster/checkpoint/hf_writer.h"
#include "muster/checkpoint/weight_map.h"
#include "muster/core/progress.h"

namespace muster {

/// Writes a model that was opened with HfUse::convert as a GGUF file, or split into parts of at
/// most `max_shard_bytes` of tensors (0: one file): every tensor in its format, metadata in the
/// types that llama.cpp's converter gives it. Memory: a few megabytes beside the mapped files. The
/// files appear when they are complete. Returns their paths. Throws Error when they cannot be
/// written, a weight is NaN or infinite, or the progress stops.
std::vector<std::filesystem::path> convert_to_gguf(const WeightMap& model,
                                                   const std::filesystem::path& path,
                                                   uint64_t max_shard_bytes,
                                                   const Progress& progress = {});

/// Writes a model of a GGUF file as a Hugging Face directory (write_hf; tokenizer.json,
/// tokenizer_config.json, chat_template.jinja), which must not exist or be empty. It appears when
/// it is complete. Throws Error as write_hf() and to_tokenizer_json() do, and when it cannot be
/// written.
void convert_to_hf(const WeightMap& model, const std::filesystem::path& directory,
                   const HfWriteOptions& options, const Progress& progress = {});

/// Gives a tensor's bytes to the sink, in order and in pieces of a few megabytes. Throws Error when
/// there is no such tensor.
void give_rows(const WeightMap& model, const std::string& name, const GgufWriter::Sink& sink);

}  // namespace muster
