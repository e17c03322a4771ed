// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "muster/core/tensor_view.h"

namespace muster {

/// Untrusted text for a message: in single quotes, control characters and non-ASCII bytes as \xNN,
/// cut after 80 bytes.
std::string quote(std::string_view text);

/// `[2, 3]`
std::string shape_text(std::span<const int64_t> shape);

/// Bytes of a tensor; none when a dimension is negative, a row is no whole number of blocks, or the
/// number of elements or of bytes exceeds int64 on the way.
std::optional<int64_t> checked_bytes(DType dtype, std::span<const int64_t> shape) noexcept;

/// The tensor `name`; throws Error when it is missing or has another shape. `leading_ones`: leading
/// dimensions of 1 do not count.
const TensorView& require_tensor(const std::map<std::string, TensorView, std::less<>>& tensors,
                                 std::string_view name, std::span<const int64_t> shape,
                                 std::string_view where, bool leading_ones);

}  // namespace muster
