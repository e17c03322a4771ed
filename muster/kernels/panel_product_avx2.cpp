// SPDX-License-Identifier: Apache-2.0
// clang-format off: the vectors come first
#include "muster/cpu/ivec_avx2.h"
namespace {
constexpr int kTileVecs = 2, kTileRows = 3;  // 12 of the 16 registers hold sums
}  // namespace
#include "muster/kernels/panel_product_impl.h"
#include "muster/kernels/quantize_row_impl.h"
// clang-format on

namespace muster {

PanelProductFn panel_product_avx2(DType dtype) noexcept { return find_product(dtype); }

void quantize_row_avx2(const float* x, int64_t n, ActivationScale scale,
                       QuantizedChunk* out) noexcept {
    quantize(x, n, scale, out);
}

}  // namespace muster
