// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "metered_executor.h"

namespace muster::bench {

/// What the machine can do at this moment, measured with all workers of the executor. Other
/// programs and the clock change it: measure it in turn with what is compared to it.

/// Multiply-adds per second, times two, of independent chains of register operands: bf16 pair dot
/// products (or tiles), f32 fused multiply-adds and int8 dot products (vectors', not tiles') of the
/// current instruction set. 0 where the CPU has no such instruction. Each takes about `seconds`.
double bf16_peak(MeteredExecutor& executor, double seconds);
double f32_peak(MeteredExecutor& executor, double seconds);
double int8_peak(MeteredExecutor& executor, double seconds);

/// Bytes per second of one pass over `bytes` bytes with plain vector loads.
double read_bandwidth(MeteredExecutor& executor, const std::byte* data, size_t bytes);

}  // namespace muster::bench
