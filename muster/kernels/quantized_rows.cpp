// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/quantized_rows.h"

#include <algorithm>
#include <cmath>

#include "muster/cpu/isa.h"
#include "muster/kernels/panel_product_kernels.h"

namespace muster {
namespace {

void quantize_reference(const float* x, int64_t n, ActivationScale scale,
                        QuantizedChunk* out) noexcept {
    const int reach = scale == ActivationScale::per_32 ? 32 : static_cast<int>(kPanelChunk);
    for (int64_t first = 0; first < n; first += kPanelChunk, ++out) {
        const int64_t count = std::min(kPanelChunk, n - first);
        for (int from = 0; from < kPanelChunk; from += reach) {
            float largest = 0;
            for (int64_t k = from; k < std::min<int64_t>(from + reach, count); ++k) {
                const float v = x[first + k];
                largest = std::isfinite(v) ? std::max(largest, std::fabs(v)) : NAN;
                if (std::isnan(largest)) break;
            }
            const float d = largest / 127.0f;
            const float inverse = inverse_scale(d);
            for (int k = from; k < from + reach; ++k) {
                const float v = k < count && inverse > 0 ? x[first + k] * inverse : 0.0f;
                out->q[k] = static_cast<int8_t>(std::nearbyint(v));
            }
            for (int g = from / 32; g < (from + reach) / 32; ++g) out->scale[g] = d;
        }
        for (int g = 0; g < 8; ++g) {
            int32_t sums[2] = {0, 0};
            for (int k = 0; k < 32; ++k) sums[k / 16] += out->q[32 * g + k];
            set_sums(*out, g, sums[0], sums[1], scale);
        }
    }
}

QuantizeFn quantize_fn() noexcept {
#if MUSTER_X86
    if (current_isa() >= Isa::avx512) return quantize_row_avx512;
    if (current_isa() == Isa::avx2) return quantize_row_avx2;
#endif
    return quantize_reference;
}

}  // namespace

ActivationScale activation_scale(DType dtype) noexcept {
    return dtype_info(dtype).block_elements == kPanelChunk ? ActivationScale::per_256
                                                           : ActivationScale::per_32;
}

void quantize_row(const float* x, int64_t n, ActivationScale scale, QuantizedChunk* out) noexcept {
    quantize_fn()(x, n, scale, out);
}

void QuantizedRows::reserve(int64_t rows, int64_t cols) {
    per_row_ = (cols + kPanelChunk - 1) / kPanelChunk;
    chunks_.reserve(static_cast<size_t>(rows * per_row_));
}

void QuantizedRows::assign(MatrixView<const float> x, ActivationScale scale, Executor& executor) {
    reserve(x.rows, x.cols);
    constexpr int64_t kRows = 8;  // of a task
    const QuantizeFn quantize = quantize_fn();
    const auto stretch = [&](int task, int) {
        const int64_t end = std::min(x.rows, (task + 1) * kRows);
        for (int64_t i = task * kRows; i < end; ++i) quantize(x.row(i), x.cols, scale, row(i));
    };
    const auto tasks = static_cast<int>((x.rows + kRows - 1) / kRows);
    if (tasks == 1) return stretch(0, 0);
    executor.run(tasks, stretch);
}

}  // namespace muster
