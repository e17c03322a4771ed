// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

#include "muster/core/tensor_view.h"

namespace muster {

/// Whether a value of the tensor is NaN or infinite; for block formats, whether a scale or minimum
/// is. Runs at about the speed of memory. The bytes need no alignment.
bool has_non_finite(const TensorView& tensor) noexcept;

/// Throws the Error for a tensor of which some of `values` cannot be stored in a format: they are
/// not finite in the first place, or too large for it.
[[noreturn]] void refuse_unfit(std::string_view where, std::string_view tensor, DType stored,
                               std::span<const float> values);

}  // namespace muster
