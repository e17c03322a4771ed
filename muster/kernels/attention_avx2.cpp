// SPDX-License-Identifier: Apache-2.0
// clang-format off: the vectors come first
#include "muster/cpu/vec_avx2.h"
#include "muster/kernels/attention_impl.h"
// clang-format on

namespace muster {

AttentionFn attention_kernel_avx2() noexcept { return attend; }

}  // namespace muster
