// SPDX-License-Identifier: Apache-2.0
// clang-format off: the vectors come first
#include "muster/cpu/vec_avx2.h"
#include "muster/kernels/norm_impl.h"
// clang-format on

namespace muster {

const NormKernels& norm_kernels_avx2() noexcept { return kKernels; }

}  // namespace muster
