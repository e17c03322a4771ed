// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace muster {

/// Element format of a tensor. Block formats store `block_elements` values in `block_bytes` bytes.
enum class DType : uint8_t { f32, f16, bf16, q8_0, i32 };

struct DTypeInfo {
    std::string_view name;   ///< lower case, as in `f32`, `q8_0`
    int64_t block_elements;  ///< 1 for plain formats
    int64_t block_bytes;
};

const DTypeInfo& dtype_info(DType dtype) noexcept;

/// Bytes of `elements` consecutive values; `elements` must be a multiple of the block.
int64_t dtype_bytes(DType dtype, int64_t elements) noexcept;

/// The format named `name` (any case); throws Error with the known names otherwise.
DType parse_dtype(std::string_view name);

}  // namespace muster
