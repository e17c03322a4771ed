// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "muster/train/language_model.h"
#include "muster/train/optimizer.h"

namespace muster::train {

/// What, beside weights and moments, a run needs to go on exactly where it stopped.
struct TrainerState {
    int64_t step = 0;                 ///< optimiser steps done
    int64_t tokens = 0;               ///< tokens trained on
    int64_t window = 0;               ///< next window of the data stream
    double seconds = 0;               ///< time spent in earlier parts of the run
    std::string config;               ///< the run's config as TOML
    std::vector<double> controllers;  ///< RequestRouting::controller_state(), of `mean:` policies
    /// [layers] experts per token in the last evaluation; empty before the first. The exporter
    /// writes them.
    std::vector<double> mean_experts;
};

/// Names (tensor_names) and contiguous f32 views of every weight of the model, expert by expert.
std::vector<std::pair<std::string, at::Tensor>> named_weights(const LanguageModelImpl& model);

/// Writes `directory`/checkpoints/step-N (config.json, model.safetensors, optimizer.safetensors,
/// trainer.json, tokenizer.model) under a temporary name, then renames it, so that a checkpoint is
/// there whole or not at all; removes all but the last `keep`. Returns its path. Throws Error.
std::filesystem::path save_checkpoint(const std::filesystem::path& directory,
                                      const LanguageModelImpl& model, const AdamW& optimizer,
                                      const TrainerState& state,
                                      const std::filesystem::path& tokenizer, int keep);

/// The newest checkpoint of a run, if it has one.
std::optional<std::filesystem::path> latest_checkpoint(const std::filesystem::path& directory);

/// Fills model, optimiser and state. Throws Error when the checkpoint is damaged or of another
/// model.
void load_checkpoint(const std::filesystem::path& checkpoint, LanguageModelImpl& model,
                     AdamW& optimizer, TrainerState& state);

}  // namespace muster::train
