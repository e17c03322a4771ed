// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "muster/core/tensor_view.h"

namespace muster {

/// Whether a value of the tensor is NaN or infinite; for block formats, whether a scale or minimum
/// is. Runs at about the speed of memory. The bytes need no alignment.
bool has_non_finite(const TensorView& tensor) noexcept;

}  // namespace muster
