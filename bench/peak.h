// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "measure.h"
#include "muster/core/executor.h"

namespace muster::bench {

/// What the machine can do at this moment, measured with all workers of the executor. Other
/// programs and the clock change it: measure it in turn with what is compared to it.

/// Multiply-adds per second, times two, of independent chains of register operands: bf16 pair dot
/// products and f32 fused multiply-adds of the strongest instruction set. bf16_peak is 0 where the
/// CPU has no such instruction. Each takes about `seconds`.
double bf16_peak(Executor& executor, double seconds, Clock clock = wall_clock);
double f32_peak(Executor& executor, double seconds, Clock clock = wall_clock);

/// Bytes per second of one pass over `bytes` bytes with plain vector loads.
double read_bandwidth(Executor& executor, const std::byte* data, size_t bytes,
                      Clock clock = wall_clock);

}  // namespace muster::bench
