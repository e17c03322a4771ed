// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace muster {

/// How much each input of each weight matrix matters: the mean of its squared activations on a
/// calibration text.
struct ImportanceMatrix {
    /// By tensor name: [matrices, cols] flattened, matrices being the experts of a stacked tensor
    /// and 1 otherwise. Finite and at least 0.
    std::map<std::string, std::vector<float>, std::less<>> values;
    int64_t chunks = 0;  ///< of the calibration text; 0: the file does not say
};

/// Reads llama.cpp's importance matrices: GGUF with tensors `NAME.in_sum2` [matrices, cols] and
/// `NAME.counts` [matrices, 1] (tools/imatrix), or the older .dat. An expert that the text never
/// called gets the mean of its layer's others. Throws Error for files that are no such thing or
/// damaged.
ImportanceMatrix read_importance(const std::filesystem::path& path);

/// One matrix of a stacked tensor.
struct StackedPart {
    std::string tensor;
    int64_t matrix = 0;
};

/// Where importance matrices have what belongs to an expert's matrix that is a tensor of its own:
/// blk.3.ffn_down.5.weight is matrix 5 of blk.3.ffn_down_exps.weight. None for other names.
std::optional<StackedPart> stacked_part(std::string_view tensor);

}  // namespace muster
