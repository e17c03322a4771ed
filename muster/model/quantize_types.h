// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "muster/checkpoint/weight_map.h"

namespace muster {

/// What a model is quantised to: one of llama.cpp's mixtures, under its name and its number in
/// `general.file_type` (llama.h: llama_ftype).
struct QuantizeTarget {
    std::string_view name;  ///< Q4_K_M
    uint32_t file_type = 0;
    DType base = DType::f32;  ///< the format of most matrices
};

/// By name, in either case; Q3_K, Q4_K, Q5_K are the M mixtures and MXFP4 is MXFP4_MOE, as in
/// llama.cpp. Throws Error with the known names, and says so of formats that cannot be written.
QuantizeTarget parse_quantize_target(std::string_view name);
std::vector<std::string_view> quantize_target_names();

struct TensorType {
    std::string name;
    DType from = DType::f32, to = DType::f32;
    bool fallback = false;  ///< the rows are no whole blocks of the format that was meant
};

/// The format of each tensor, in the order of layers: llama.cpp's choices (llama-quant.cpp,
/// llama_tensor_get_type). Norms, biases, routers and what is small keep their format; output
/// matrices, attn_v, ffn_down get more bits in some layers. `pure`: all matrices get the target's
/// base instead. Throws Error for a tensor whose layer is beyond block_count.
std::vector<TensorType> plan_tensor_types(const WeightMap& model, const QuantizeTarget& target,
                                          bool has_importance, bool pure);

}  // namespace muster
