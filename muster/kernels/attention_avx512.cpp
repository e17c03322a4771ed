// SPDX-License-Identifier: Apache-2.0
// clang-format off: the vectors come first, and g++ 12 takes their undefined operands for mistakes
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include "muster/cpu/vec_avx512.h"
#include "muster/kernels/attention_impl.h"
// clang-format on

namespace muster {

AttentionFn attention_kernel_avx512() noexcept { return attend; }

}  // namespace muster
