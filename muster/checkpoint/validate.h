// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "muster/core/tensor_view.h"

namespace muster {

/// Whether a value of the tensor is NaN or infinite; for q8_0, whether a scale is. Runs at about
/// the speed of memory. The bytes need no alignment.
bool has_non_finite(const TensorView& tensor) noexcept;

}  // namespace muster
