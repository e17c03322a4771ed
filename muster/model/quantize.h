// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "muster/core/executor.h"
#include "muster/core/progress.h"
#include "muster/model/importance.h"
#include "muster/model/quantize_types.h"

namespace muster {

struct QuantizeSettings {
    QuantizeTarget target;
    bool pure = false;              ///< one format for all matrices
    bool allow_requantize = false;  ///< of what is in a block format already
    const ImportanceMatrix* importance = nullptr;
    std::string importance_name;  ///< of its file, for the metadata
};

/// What became of a tensor.
struct QuantizedTensor {
    TensorType type;
    std::vector<int64_t> shape;
    int64_t bytes_before = 0, bytes_after = 0;
    bool weighted = false;     ///< by importance
    double squared_error = 0;  ///< sums over the tensor; only of tensors whose format changed
    double squared_values = 0;
    /// Root of the squared error's share of the squares; 0 where the format is the same.
    double relative_error() const noexcept;
};

struct QuantizeReport {
    std::vector<QuantizedTensor> tensors;
    int64_t bytes_before = 0, bytes_after = 0;  ///< of the tensors
    double relative_error = 0;                  ///< over all tensors whose format changed
};

/// Writes the model again as one GGUF file with its matrices in other formats (quantize_types.h),
/// all metadata kept in its types, general.file_type and general.quantization_version set as
/// llama.cpp does. The file appears when it is complete. Memory: a few million values beside the
/// mapped model, whatever its size. The result does not depend on the number of workers.
/// Throws Error when a tensor holds NaN, infinity or a value too large for its format, is in a
/// block format already (unless allow_requantize), when the importance of a matrix has another
/// shape, or the progress stops.
QuantizeReport quantize_model(const WeightMap& model, const std::filesystem::path& output,
                              const QuantizeSettings& settings, Executor& executor,
                              const Progress& progress = {});

}  // namespace muster
