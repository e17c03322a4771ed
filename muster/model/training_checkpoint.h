// SPDX-License-Identifier: Apache-2.0
// A training checkpoint read for export. Internal to model/.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "muster/checkpoint/safetensors.h"
#include "muster/core/progress.h"
#include "muster/model/config.h"
#include "muster/tokenizer/tokenizer.h"

namespace muster {

/// config.json, model.safetensors and tokenizer.model of a directory, checked against each other.
class TrainingCheckpoint {
  public:
    /// Throws Error naming the file that is missing, damaged or does not fit the others.
    explicit TrainingCheckpoint(const std::filesystem::path& directory);

    const ModelConfig& config() const noexcept { return config_; }
    const Vocabulary& vocabulary() const noexcept { return tokenizer_.vocabulary(); }

    /// A tensor of this shape, without NaN or infinite values; throws Error naming it.
    const TensorView& tensor(std::string_view name, const std::vector<int64_t>& shape) const;

    /// Its values in another format, rows of whole blocks; throws Error naming it when some are too
    /// large for the format, and as tensor() does.
    std::vector<std::byte> converted(std::string_view name, const std::vector<int64_t>& shape,
                                     DType dtype) const;

  private:
    ModelConfig config_;
    SafetensorsFile weights_;
    Tokenizer tokenizer_;
};

/// How many experts per token a program that only knows a fixed top-k should take: the k of the
/// model's own routing, else the measured mean rounded up, else 2.
int equivalent_top_k(const ModelConfig& config);

/// Throws Error where an export to the directory `out` would write into the checkpoint itself.
void expect_outside(const std::filesystem::path& checkpoint, const std::filesystem::path& out);

/// Reports `what` and throws Error when the caller asks to stop.
void report_export(const Progress& progress, std::string_view what, int64_t done, int64_t total);

}  // namespace muster
