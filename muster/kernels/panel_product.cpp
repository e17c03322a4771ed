// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/panel_product.h"

#include <algorithm>

#include "muster/core/error.h"
#include "muster/kernels/panel_product_kernels.h"
#include "muster/quant/convert.h"

namespace muster {
namespace {

/// What the product means: weights decoded by the format's definition, activations multiplied out.
void reference(const PanelProduct& p) noexcept {
    const DTypeInfo& info = dtype_info(p.w.dtype);
    const DecodeFn decode = decoder(p.w.dtype, Isa::generic);
    const int64_t chunk_blocks = kPanelChunk / info.block_elements;
    const int64_t blocks = p.w.cols / info.block_elements;
    alignas(64) std::byte plain[kPanelChunk * 34 / 32];
    float w[kPanelChunk];
    for (int64_t i = 0; i < p.m; ++i) std::fill_n(p.out + i * p.ldo, p.last - p.first, 0.0f);
    for (int64_t row = p.first; row < p.last; ++row) {
        const int64_t lane = row % kPanelRows;
        for (int64_t b = 0, chunk = 0; b < blocks; b += chunk_blocks, ++chunk) {
            const int64_t n = std::min(chunk_blocks, blocks - b);
            const std::byte* at = p.w.row(row) + b * info.block_bytes;
            if (p.w.layout == WeightLayout::panels) {
                const std::byte* from = p.w.row(row - lane) + kPanelRows * b * info.block_bytes;
                unpack_row(
                    {p.w.dtype, from, kPanelRows, n * info.block_elements, WeightLayout::panels},
                    lane, plain);
                at = plain;
            }
            decode(at, w, n * info.block_elements);
            for (int64_t i = 0; i < p.m; ++i) {
                const QuantizedChunk& x = p.x[i][chunk];
                float sum = 0;
                for (int64_t k = 0; k < n * info.block_elements; ++k) {
                    sum += w[k] * (x.scale[k / 32] * static_cast<float>(x.q[k]));
                }
                p.out[i * p.ldo + row - p.first] += sum;
            }
        }
    }
}

}  // namespace

PanelProductFn panel_product(DType dtype, Isa isa) noexcept {
    MUSTER_ASSERT(!panel_planes(dtype).empty());
#if MUSTER_X86
    if (isa >= Isa::avx512) return panel_product_avx512(dtype);
    if (isa == Isa::avx2) return panel_product_avx2(dtype);
#endif
    (void)isa;
    return reference;
}

PanelGrid::PanelGrid(int64_t rows, const WeightMatrix& w, int workers) noexcept
    : rows_(rows), columns_(w.rows) {
    // Rows share the unpacking of a panel; beyond some hundred there is little left to share.
    constexpr int64_t kMostRows = 192, kTaskBytes = int64_t{192} << 10;
    row_parts_ = std::max<int64_t>(1, (rows + kMostRows - 1) / kMostRows);
    row_step_ = (rows + row_parts_ - 1) / row_parts_;
    const int64_t panels = (columns_ + kPanelRows - 1) / kPanelRows;
    const int64_t fit = kOutputs / kPanelRows / std::max<int64_t>(1, row_step_);
    const int64_t bytes = kTaskBytes / std::max<int64_t>(1, kPanelRows * w.row_bytes());
    const int64_t share = panels * row_parts_ / (int64_t{4} * workers);
    column_step_ = std::max<int64_t>(1, std::min({fit, bytes, share})) * kPanelRows;
    column_parts_ = (columns_ + column_step_ - 1) / column_step_;
}

PanelGrid::Part PanelGrid::part(int task) const noexcept {
    const int64_t column = task / row_parts_ * column_step_, row = task % row_parts_ * row_step_;
    return {column, std::min(columns_, column + column_step_), row,
            std::min(row_step_, rows_ - row)};
}

}  // namespace muster
