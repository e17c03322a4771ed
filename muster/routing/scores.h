// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

namespace muster {

// The first axis, score_logits(), is declared in router.h. Here is what else walks over rows.
// Internal to routing/.

/// Index of the first NaN or infinity, or -1.
int first_not_finite(std::span<const float> row) noexcept;

/// The largest value; -infinity of an empty row. No NaN.
float row_max(std::span<const float> row) noexcept;

}  // namespace muster
