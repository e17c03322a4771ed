// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace muster::bench {

/// One instruction set's loops. The results only keep the compiler from dropping the work.
struct PeakKernels {
    double operations_per_round = 0;  ///< of f32
    double bf16_operations_per_round = 0;
    float (*f32)(int64_t rounds) noexcept = nullptr;
    float (*bf16)(int64_t rounds) noexcept = nullptr;
    double int8_operations_per_round = 0;
    float (*int8)(int64_t rounds) noexcept = nullptr;
    uint64_t (*read)(const std::byte* data, size_t bytes) noexcept = nullptr;
};

PeakKernels peak_kernels_avx2() noexcept;
PeakKernels peak_kernels_avx512() noexcept;
PeakKernels peak_kernels_amx() noexcept;

}  // namespace muster::bench
