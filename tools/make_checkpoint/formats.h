// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "muster/core/dtype.h"
#include "muster/core/random.h"
#include "tools/make_checkpoint/weights.h"

namespace muster::checkpoints {

/// What a file's weights are stored as: one format, or a mixture (`q4_k_m`, `mxfp4_moe`).
struct FileType {
    std::string_view name;
    DType format = DType::f32;
    enum class Mixture : uint8_t { none, k_medium, experts_only } mixture = Mixture::none;
    uint32_t number = 0;  ///< llama.cpp's general.file_type
};

/// By name, any case; throws Error with the known names.
const FileType& parse_file_type(std::string_view name);

/// The format of a tensor, as llama.cpp's quantiser chooses it: norms, biases and routers f32;
/// mixtures give the output, some values and some down projections six bits; a format whose blocks
/// do not fill the rows gives way to one of 32 values, that to f16.
DType tensor_format(const FileType& type, const CheckpointSpec& spec, const TensorPlan& plan);

/// Fills `out` with blocks of `dtype` that hold random values of about `deviation` and mean 0, much
/// faster than by encoding. Not for f32 and i32 (asserted). out.size() is a multiple of the block's
/// bytes.
void random_blocks(DType dtype, double deviation, Random& random, std::span<std::byte> out);

}  // namespace muster::checkpoints
