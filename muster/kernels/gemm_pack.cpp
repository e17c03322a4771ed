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

// Where one row of elements goes: nr at a time, `stride` apart.
struct RowWriter {
    const GemmKernels& kernels;
    Compute compute;
    int64_t stride;

    // n elements of row a, in pairs with row b (null: none).
    void write(const float* a, const float* b, int64_t n, float* out) const noexcept {
        const int64_t nr = kernels.nr;
        if (kernels.pairs(compute)) {
            kernels.pair_rows(a, b, n, out, stride);
        } else if (compute == Compute::f32) {
            kernels.copy_row(a, n, out, stride);
        } else {
            for (int64_t j = 0; j < n; j += nr, out += stride) {
                kernels.round_row(a + j, std::min(nr, n - j), out);
            }
        }
    }
    // The same, with zeros up to a whole panel.
    void write_panels(const float* a, const float* b, int64_t n, float* out) const noexcept {
        write(a, b, n, out);
        const int64_t nr = kernels.nr, rest = n % nr;
        if (rest != 0) std::fill_n(out + n / nr * stride + rest, nr - rest, 0.0f);
    }
};

// Columns of a weight matrix, row by row. At most kPackChunk columns at a time pass through
// buffers where the weights are not f32.
struct ColPacker {
    const RowWriter& writer;
    const WeightMatrix& w;
    DecodeFn decode;

    const float* values(int64_t k, int64_t first, int64_t n, float* buffer) const noexcept {
        const std::byte* stored = w.row(k) + dtype_bytes(w.dtype, first);
        if (w.dtype == DType::f32) return reinterpret_cast<const float*>(stored);
        decode(stored, buffer, n);
        return buffer;
    }

    void columns(int64_t first, int64_t n, int64_t k_first, int64_t k_last,
                 float* out) const noexcept {
        alignas(64) float low[kPackChunk], high[kPackChunk];
        const int step = writer.kernels.pairs(writer.compute) ? 2 : 1;
        for (int64_t k = k_first; k < k_last; k += step, out += writer.kernels.nr) {
            const bool pair = step == 2 && k + 1 < k_last;
            const float* a = values(k, first, n, low);
            const float* b = pair ? values(k + 1, first, n, high) : nullptr;
            writer.write_panels(a, b, n, out);
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
    const RowWriter writer{kernels, compute, stride};
    const ColPacker packer{writer, w, decoder(w.dtype, isa)};
    for (int64_t j = range.first; j < range.last; j += kPackChunk) {
        packer.columns(j, std::min(kPackChunk, range.last - j), range.k_first, range.k_last,
                       panels + (j - range.first) / nr * stride);
    }
    return {panels, nr, stride};
}

void pack_gathered(const GemmKernels& kernels, Compute compute, const float* const* rows,
                   int64_t count, ColumnRange columns, float* out, int64_t ld,
                   int64_t stride) noexcept {
    const RowWriter writer{kernels, compute, stride};
    const int64_t n = columns.last - columns.first;
    const int step = kernels.pairs(compute) ? 2 : 1;
    // Rows lie anywhere: fetch some ahead, further than the short ones take to pass.
    constexpr int64_t kAhead = 6;
    for (int64_t k = 0; k < count; k += step, out += ld) {
        const float* a = rows[k] + columns.first;
        const float* b = step == 2 && k + 1 < count ? rows[k + 1] + columns.first : nullptr;
        for (int64_t next = k + kAhead; next < std::min(count, k + kAhead + step); ++next) {
            const float* row = rows[next] + columns.first;
            for (int64_t j = 0; j < n; j += 16) __builtin_prefetch(row + j);
        }
        if (ld == kernels.nr) {
            writer.write_panels(a, b, n, out);
        } else {
            writer.write(a, b, n, out);
        }
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
