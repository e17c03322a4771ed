// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace muster {

/// Element format of a tensor. Block formats store `block_elements` values in `block_bytes` bytes;
/// they are GGML's, named as there.
enum class DType : uint8_t {
    f32,
    f16,
    bf16,
    q8_0,
    i32,
    q4_0,
    q4_1,
    q5_0,
    q5_1,
    q2_k,
    q3_k,
    q4_k,
    q5_k,
    q6_k,
    iq4_nl,
    iq4_xs,
    mxfp4
};

struct DTypeInfo {
    std::string_view name;   ///< lower case, as in `f32`, `q8_0`
    int64_t block_elements;  ///< 1 for plain formats
    int64_t block_bytes;
};

const DTypeInfo& dtype_info(DType dtype) noexcept;

/// All of them, in the order of the enumeration.
std::span<const DType> all_dtypes() noexcept;

/// Bytes of `elements` consecutive values; `elements` must be a multiple of the block.
int64_t dtype_bytes(DType dtype, int64_t elements) noexcept;

/// The format named `name` (any case); throws Error with the known names otherwise.
DType parse_dtype(std::string_view name);

}  // namespace muster
