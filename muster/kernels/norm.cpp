// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/norm.h"

#include <cmath>

#include "muster/core/error.h"
#include "muster/kernels/norm_kernels.h"

namespace muster {
namespace {

// The reference: sums in double.
void rms(const NormRow& row) noexcept {
    double squares = 0;
    for (int64_t i = 0; i < row.n; ++i) squares += static_cast<double>(row.x[i]) * row.x[i];
    const double mean = squares / static_cast<double>(row.n);
    const auto factor = static_cast<float>(1 / std::sqrt(mean + row.eps));
    for (int64_t i = 0; i < row.n; ++i) row.y[i] = row.x[i] * factor * row.weight[i];
}

void layer(const NormRow& row) noexcept {
    const auto size = static_cast<double>(row.n);
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < row.n; ++i) sum += row.x[i];
    const double mean = sum / size;
    for (int64_t i = 0; i < row.n; ++i) squares += (row.x[i] - mean) * (row.x[i] - mean);
    const double factor = 1 / std::sqrt(squares / size + row.eps);
    for (int64_t i = 0; i < row.n; ++i) {
        const float bias = row.bias != nullptr ? row.bias[i] : 0.0f;
        row.y[i] = static_cast<float>((row.x[i] - mean) * factor) * row.weight[i] + bias;
    }
}

constexpr NormKernels kReference{rms, layer};

void for_rows(MatrixView<const float> x, std::span<const float> weight, std::span<const float> bias,
              float eps, MatrixView<float> y, void (*kernel)(const NormRow&) noexcept) {
    MUSTER_ASSERT(x.rows == y.rows && x.cols == y.cols);
    MUSTER_ASSERT(static_cast<int64_t>(weight.size()) == x.cols);
    MUSTER_ASSERT(bias.empty() || bias.size() == weight.size());
    if (x.cols == 0) return;
    NormRow row{.weight = weight.data(),
                .bias = bias.empty() ? nullptr : bias.data(),
                .n = x.cols,
                .eps = eps};
    for (int64_t t = 0; t < x.rows; ++t) {
        row.x = x.row(t);
        row.y = y.row(t);
        kernel(row);
    }
}

}  // namespace

const NormKernels& norm_kernels(Isa isa) noexcept {
#if MUSTER_X86
    if (isa >= Isa::avx512) return norm_kernels_avx512();
    if (isa == Isa::avx2) return norm_kernels_avx2();
#endif
    (void)isa;
    return kReference;
}

void rms_norm(MatrixView<const float> x, std::span<const float> weight, float eps,
              MatrixView<float> y) {
    for_rows(x, weight, {}, eps, y, norm_kernels(current_isa()).rms);
}

void layer_norm(MatrixView<const float> x, std::span<const float> weight,
                std::span<const float> bias, float eps, MatrixView<float> y) {
    for_rows(x, weight, bias, eps, y, norm_kernels(current_isa()).layer);
}

}  // namespace muster
