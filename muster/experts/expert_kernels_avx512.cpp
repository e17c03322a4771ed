// SPDX-License-Identifier: Apache-2.0
// clang-format off: the vectors come first
#include "muster/cpu/vec_avx512.h"
#include "muster/experts/expert_kernels_impl.h"
// clang-format on

namespace muster {

const ExpertKernels& expert_kernels_avx512() noexcept { return kKernels; }

}  // namespace muster
