// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "muster/core/executor.h"

namespace muster::cli {

/// The most f32 operations per second that all workers reach with fused multiply-adds on registers
/// (two operations each), under the current instruction set: the arithmetic limit that a prefill's
/// rate is compared with. Takes about `seconds`; the best of several short runs counts, because
/// other programs can only slow it down.
double measure_peak_flops(Executor& executor, double seconds = 0.3);

namespace internal {
/// `rounds` rounds of fused multiply-adds; gives the number of operations done. `sink` receives a
/// value that depends on all of them.
using FmaLoop = double (*)(long rounds, float* sink);
double fma_loop_generic(long rounds, float* sink);
double fma_loop_avx2(long rounds, float* sink);
double fma_loop_avx512(long rounds, float* sink);
}  // namespace internal

}  // namespace muster::cli
