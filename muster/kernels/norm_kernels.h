// SPDX-License-Identifier: Apache-2.0
// One row of rms_norm() and layer_norm(), per instruction set. Internal to kernels/.
#pragma once

#include <cstdint>

#include "muster/cpu/isa.h"

namespace muster {

struct NormRow {
    const float* x = nullptr;
    const float* weight = nullptr;
    const float* bias = nullptr;  ///< layer norm only; may be null
    float* y = nullptr;           ///< may be x
    int64_t n = 0;                ///< >= 1
    float eps = 0;
};

struct NormKernels {
    void (*rms)(const NormRow& row) noexcept;
    void (*layer)(const NormRow& row) noexcept;
};

const NormKernels& norm_kernels(Isa isa) noexcept;
#if MUSTER_X86
const NormKernels& norm_kernels_avx2() noexcept;
const NormKernels& norm_kernels_avx512() noexcept;
#endif

}  // namespace muster
