// SPDX-License-Identifier: Apache-2.0
#include "muster/cpu/vec_avx512.h"
// The loop is written against the Vec above.
#include "muster/cli/peak_flops.h"
#include "muster/cli/peak_flops_impl.h"

namespace muster::cli::internal {

double fma_loop_avx512(long rounds, float* sink) { return fma_loop(rounds, sink); }

}  // namespace muster::cli::internal
