// SPDX-License-Identifier: Apache-2.0
// clang-format off: the vectors come first
#include "muster/cpu/vec_avx2.h"
#include "muster/experts/expert_kernels_impl.h"
// clang-format on

namespace muster {

const ExpertKernels& expert_kernels_avx2() noexcept { return kKernels; }

}  // namespace muster
