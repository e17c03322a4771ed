// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

namespace muster {

/// In place: x_i = exp(x_i - max) / sum. Empty spans stay empty. Differences to the maximum of 87
/// and more may give 0. At least one value is finite.
void softmax(std::span<float> x) noexcept;

/// log(sum(exp(x))), with the maximum taken out; -inf for an empty span. Long sums are in double.
double log_sum_exp(std::span<const float> x) noexcept;

}  // namespace muster
