// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/gemm_pack.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "muster/quant/convert.h"

namespace muster {
namespace {

// Whether columns of w stay in the second-level cache while row after row of tiles walks through
// them: their lines lie row_bytes apart and must not share too few of 1024 sets of 16 ways (1 MB;
// larger caches have more sets), of which they may take half.
bool reusable_in_place(const WeightMatrix& w, int64_t rows) noexcept {
    constexpr int64_t kSets = 1024, kLines = 8;
    if (w.row_bytes() % 64 != 0) return true;
    return rows <= kSets / std::gcd(w.row_bytes() / 64, kSets) * kLines;
}

// One panel of pack_rows.
struct RowPacker {
    const GemmKernels& kernels;
    Compute compute;
    const WeightMatrix& w;
    DecodeFn decode;
    float* scratch;

    bool as_stored() const noexcept {
        if (compute == Compute::f32) return w.dtype == DType::f32;
        return kernels.pairs(compute) && w.dtype == DType::bf16;
    }

    // Decodes values [k, k + n) of rows [first, first + count) and appends their elements.
    void chunk(int64_t first, int count, int64_t k, int64_t n, float* out) const noexcept {
        const float* rows[kMaxTileCols];
        const int64_t skip = dtype_bytes(w.dtype, k);
        for (int i = 0; i < count; ++i) {
            float* row = scratch + i * kPackChunk;
            decode(w.row(first + i) + skip, row, n);
            if (compute == Compute::bf16) kernels.round_row(row, n, row);
            rows[i] = row;
        }
        kernels.transpose(rows, count, kernels.elements(compute, n), out);
    }

    void panel(int64_t first, int count, int64_t k_first, int64_t k_last, float* out) const {
        int64_t k = k_first;
        if (as_stored()) {
            const float* rows[kMaxTileCols];
            const int64_t skip = dtype_bytes(w.dtype, k);
            for (int i = 0; i < count; ++i) {
                rows[i] = reinterpret_cast<const float*>(w.row(first + i) + skip);
            }
            // Whole elements; what an odd end leaves is decoded below.
            const int64_t whole = (k_last - k) / (kernels.pairs(compute) ? 2 : 1);
            kernels.transpose(rows, count, whole, out);
            k += whole * (kernels.pairs(compute) ? 2 : 1);
            out += whole * kernels.nr;
        }
        for (int64_t n; k < k_last; k += n) {
            n = std::min(kPackChunk, k_last - k);
            chunk(first, count, k, n, out);
            out += kernels.elements(compute, n) * kernels.nr;
        }
    }
};

// Rows k (and k + 1 in pairs) of one panel of pack_cols.
struct ColPacker {
    const GemmKernels& kernels;
    Compute compute;
    const WeightMatrix& w;
    DecodeFn decode;

    // Values [first, first + count) of row k as f32, zeros up to nr: in place where w holds them.
    const float* values(int64_t k, int64_t first, int64_t count, float* buffer) const noexcept {
        const std::byte* stored = w.row(k) + dtype_bytes(w.dtype, first);
        if (w.dtype == DType::f32 && count == kernels.nr) {
            return reinterpret_cast<const float*>(stored);
        }
        decode(stored, buffer, count);
        return buffer;
    }

    void panel(int64_t first, int64_t count, int64_t k_first, int64_t k_last,
               float* out) const noexcept {
        alignas(64) float low[kMaxTileCols] = {}, high[kMaxTileCols] = {};
        const bool pairs = kernels.pairs(compute);
        const int64_t nr = kernels.nr;
        for (int64_t k = k_first; k < k_last; k += pairs ? 2 : 1, out += nr) {
            const float* a = values(k, first, count, low);
            if (pairs) {
                const float* b = k + 1 < k_last ? values(k + 1, first, count, high) : nullptr;
                kernels.pair_rows(a, b, nr, out);
            } else if (compute == Compute::bf16) {
                kernels.round_row(a, nr, out);
            } else {
                std::memcpy(out, a, static_cast<size_t>(nr) * sizeof(float));
            }
        }
    }
};

}  // namespace

Panels pack_rows(const GemmKernels& kernels, Compute compute, Isa isa, const WeightMatrix& w,
                 const PackRange& range, float* scratch, float* panels) noexcept {
    const int64_t stride = kernels.elements(compute, range.k_last - range.k_first) * kernels.nr;
    const RowPacker packer{kernels, compute, w, decoder(w.dtype, isa), scratch};
    float* out = panels;
    for (int64_t j = range.first; j < range.last; j += kernels.nr, out += stride) {
        const int count = static_cast<int>(std::min<int64_t>(kernels.nr, range.last - j));
        packer.panel(j, count, range.k_first, range.k_last, out);
    }
    return {panels, kernels.nr, stride};
}

Panels pack_cols(const GemmKernels& kernels, Compute compute, Isa isa, const WeightMatrix& w,
                 const PackRange& range, float* panels) noexcept {
    const int64_t nr = kernels.nr, k = range.k_last - range.k_first;
    if (compute == Compute::f32 && w.dtype == DType::f32 && (range.last - range.first) % nr == 0 &&
        reusable_in_place(w, k)) {
        return {reinterpret_cast<const float*>(w.row(range.k_first)) + range.first, w.cols, nr};
    }
    const int64_t stride = kernels.elements(compute, k) * nr;
    const ColPacker packer{kernels, compute, w, decoder(w.dtype, isa)};
    float* out = panels;
    for (int64_t j = range.first; j < range.last; j += nr, out += stride) {
        packer.panel(j, std::min(nr, range.last - j), range.k_first, range.k_last, out);
    }
    return {panels, nr, stride};
}

void pack_gathered(const GemmKernels& kernels, Compute compute, const float* const* rows,
                   int64_t count, int64_t first, int64_t cols, float* out, int64_t ld) noexcept {
    const bool pairs = kernels.pairs(compute);
    for (int64_t k = 0; k < count; k += pairs ? 2 : 1, out += ld) {
        const float* row = rows[k] + first;
        if (pairs) {
            kernels.pair_rows(row, k + 1 < count ? rows[k + 1] + first : nullptr, cols, out);
        } else if (compute == Compute::bf16) {
            kernels.round_row(row, cols, out);
        } else {
            std::memcpy(out, row, static_cast<size_t>(cols) * sizeof(float));
        }
        std::fill(out + cols, out + ld, 0.0f);
    }
}

Prefetch prefetch_rows(const WeightMatrix& w, const PackRange& range, int64_t tiles,
                       int64_t k) noexcept {
    if (range.last <= range.first || tiles * k == 0) return {};
    const int64_t bytes = (range.last - range.first) * w.row_bytes();
    const int64_t step = (bytes + tiles * k - 1) / (tiles * k);
    return {w.row(range.first), tiles, step, step * k, 1, 0};
}

Prefetch prefetch_cols(const WeightMatrix& w, const PackRange& range, int64_t tiles,
                       int64_t k) noexcept {
    if (range.last <= range.first || tiles * k == 0) return {};
    // A tile fetches one cache line of each of its rows of w: every fold-th.
    constexpr int64_t kLine = 64;
    const int64_t fold = (range.k_last - range.k_first + k - 1) / k;
    const int64_t lines = (dtype_bytes(w.dtype, range.last - range.first) + kLine - 1) / kLine;
    return {w.row(range.k_first) + dtype_bytes(w.dtype, range.first),
            std::min(tiles, lines * fold),
            fold * w.row_bytes(),
            kLine,
            fold,
            w.row_bytes()};
}

}  // namespace muster
