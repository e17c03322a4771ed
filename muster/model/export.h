// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "muster/core/dtype.h"
#include "muster/core/progress.h"

namespace muster {

/// A training checkpoint is a directory with config.json (to_json(ModelConfig)), model.safetensors
/// (f32, names in tensor_names, linear weights [out, in]) and tokenizer.model (SentencePiece).
/// Both functions throw Error, one sentence, when it is damaged or incomplete, or the output cannot
/// be written; `progress` may be empty, and returning false stops with an Error.

/// Writes a GGUF file whose weight matrices are in `dtype` (f32, f16, bf16 or q8_0); norms and
/// routers stay f32, and so do rows that q8_0's blocks of 32 do not divide. Architecture `olmoe`
/// when that can express the model (a tied head is written out), otherwise `muster`
/// (arch/muster.cpp). Routing policy and router settings stand under muster.* keys.
void export_gguf(const std::filesystem::path& checkpoint, const std::filesystem::path& out,
                 DType dtype, const Progress& progress = {});

/// Writes a Hugging Face directory (OlmoeForCausalLM): config.json, generation_config.json,
/// model.safetensors, tokenizer.json, tokenizer_config.json. `dtype`: f32, f16 or bf16. Throws
/// Error naming what OLMoE cannot express, when that is so.
void export_hf(const std::filesystem::path& checkpoint, const std::filesystem::path& out_directory,
               DType dtype, const Progress& progress = {});

}  // namespace muster
