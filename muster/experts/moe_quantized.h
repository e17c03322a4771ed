// SPDX-License-Identifier: Apache-2.0
// The forward pass over experts whose weights are in block formats, in integers. Internal to
// experts/.
#pragma once

#include "muster/experts/moe_tasks.h"

namespace muster {

/// Whether every matrix of the bank has a block format.
bool quantized_bank(const ExpertBank& bank) noexcept;

/// moe_forward() under Compute::int8 for such a bank.
void quantized_forward(const MoeContext& context, const RouteTable& routes,
                       MatrixView<const float> x, MatrixView<float> y, bool accumulate);

}  // namespace muster
