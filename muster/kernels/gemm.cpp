// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/gemm.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace muster {

const GemmKernels& gemm_kernels_avx2() noexcept;
const GemmKernels& gemm_kernels_avx512() noexcept;

namespace {

// The reference: plain loops over tiles small enough for any machine's registers.
constexpr int kReferenceRows = 4;
constexpr int kReferenceCols = 8;

template <int kRows, bool kByCols>
void reference_tile(const GemmTile& t) noexcept {
    float sums[kRows][kReferenceCols] = {};
    for (int64_t k = 0; k < t.k; ++k) {
        for (int i = 0; i < kRows; ++i) {
            const float x = kByCols ? t.a[k][t.a_offset + i] : t.a[i][t.a_offset + k];
            for (int j = 0; j < kReferenceCols; ++j) sums[i][j] += x * t.b[k * t.ldb + j];
        }
    }
    for (int i = 0; i < kRows; ++i) {
        for (int j = 0; j < kReferenceCols; ++j) {
            float& c = t.c[i * t.ldc + j];
            c = t.accumulate ? c + sums[i][j] : sums[i][j];
        }
    }
}

void reference_transpose(const float* const* rows, int count, int64_t k, float* panel) noexcept {
    for (int64_t i = 0; i < k; ++i) {
        for (int j = 0; j < kReferenceCols; ++j) {
            panel[i * kReferenceCols + j] = j < count ? rows[j][i] : 0.0f;
        }
    }
}

void reference_round(const float* values, int64_t n, float* elements) noexcept {
    for (int64_t i = 0; i < n; ++i) elements[i] = bf16_to_f32(f32_to_bf16(values[i]));
}

template <int kRows = 1>
void fill_reference(GemmKernels& kernels) noexcept {
    for (int compute = 0; compute < 2; ++compute) {
        kernels.by_rows[compute][kRows - 1] = reference_tile<kRows, false>;
        kernels.by_cols[compute][kRows - 1] = reference_tile<kRows, true>;
    }
    if constexpr (kRows < kReferenceRows) fill_reference<kRows + 1>(kernels);
}

const GemmKernels& reference_kernels() noexcept {
    static const GemmKernels kernels = [] {
        GemmKernels k;
        k.mr = kReferenceRows;
        k.nr = kReferenceCols;
        k.bf16_values = 1;
        fill_reference(k);
        k.fence = []() noexcept {};
        k.transpose = reference_transpose;
        k.round_row = reference_round;
        k.pair_rows = nullptr;
        return k;
    }();
    return kernels;
}

// Whether a column panel of w stays in the second-level cache while row after row of tiles walks
// through it: its lines lie row_bytes apart and must not share too few of 1024 sets of 16 ways
// (1 MB; larger caches have more sets), of which they may take half.
bool reusable_in_place(const WeightMatrix& w) noexcept {
    constexpr int64_t kSets = 1024, kLines = 8;
    if (w.row_bytes() % 64 != 0) return true;
    return w.rows <= kSets / std::gcd(w.row_bytes() / 64, kSets) * kLines;
}

bool can_stream(const float* c, int64_t ldc) noexcept {
    return reinterpret_cast<uintptr_t>(c) % 64 == 0 && ldc % 16 == 0;
}

// A tile whose C ends within the panel: through memory of its own.
void run_edge_tile(const GemmKernels& kernels, GemmTileFn fn, const GemmTile& t, int64_t m,
                   int cols) noexcept {
    alignas(64) float edge[kMaxTileRows * kMaxTileCols];
    GemmTile whole = t;
    whole.c = edge;
    whole.ldc = kernels.nr;
    whole.accumulate = whole.stream = false;
    fn(whole);
    for (int64_t i = 0; i < m; ++i) {
        float* c = t.c + i * t.ldc;
        const float* e = edge + i * kernels.nr;
        for (int j = 0; j < cols; ++j) c[j] = t.accumulate ? c[j] + e[j] : e[j];
    }
}

template <bool kByCols>
void gemm_block(const GemmKernels& kernels, Compute compute, const GemmBlock& block) noexcept {
    const auto& tiles = kByCols ? kernels.by_cols : kernels.by_rows;
    const int64_t height = tile_height(kernels, block.rows);
    GemmTile t;
    t.b = block.b.data;
    t.ldb = block.b.ldb;
    t.k = block.k;
    t.ldc = block.ldc;
    t.accumulate = block.accumulate;
    t.stream = block.stream && !block.accumulate && can_stream(block.c, block.ldc);
    int64_t tile = 0;
    for (int64_t r = 0; r < block.rows; r += height, ++tile) {
        const int64_t m = std::min(height, block.rows - r);
        t.a = kByCols ? block.a : block.a + r;
        t.a_offset = kByCols ? block.a_offset + r : block.a_offset;
        t.c = block.c + r * block.ldc;
        block.prefetch.apply(tile, t);
        const GemmTileFn fn = tiles[static_cast<int>(compute)][m - 1];
        block.cols == kernels.nr ? fn(t) : run_edge_tile(kernels, fn, t, m, block.cols);
    }
}

}  // namespace

const GemmKernels& gemm_kernels(Isa isa) noexcept {
#if MUSTER_X86
    if (isa == Isa::avx512) return gemm_kernels_avx512();
    if (isa == Isa::avx2) return gemm_kernels_avx2();
#endif
    (void)isa;
    return reference_kernels();
}

void pack_rows(const GemmKernels& kernels, Compute compute, Isa isa, const WeightMatrix& w,
               int64_t first, int count, float* scratch, float* panel) noexcept {
    const float* rows[kMaxTileCols];
    const bool pairs = compute == Compute::bf16 && kernels.bf16_values == 2;
    const bool direct = compute == Compute::f32
                            ? w.dtype == DType::f32
                            : pairs && w.dtype == DType::bf16 && w.cols % 2 == 0;
    if (direct) {
        for (int i = 0; i < count; ++i) rows[i] = reinterpret_cast<const float*>(w.row(first + i));
        kernels.transpose(rows, count, kernels.elements(compute, w.cols), panel);
        return;
    }
    const DecodeFn decode = decoder(w.dtype, isa);
    for (int64_t k = 0; k < w.cols; k += kPackChunk) {
        const int64_t values = std::min(kPackChunk, w.cols - k);
        const int64_t skip = dtype_bytes(w.dtype, k);
        for (int i = 0; i < count; ++i) {
            float* row = scratch + i * kPackChunk;
            decode(w.row(first + i) + skip, row, values);
            if (compute == Compute::bf16) kernels.round_row(row, values, row);
            rows[i] = row;
        }
        const int64_t done = kernels.elements(compute, k);
        kernels.transpose(rows, count, kernels.elements(compute, values),
                          panel + done * kernels.nr);
    }
}

PanelRef pack_cols(const GemmKernels& kernels, Compute compute, Isa isa, const WeightMatrix& w,
                   int64_t first, int count, float* panel) noexcept {
    const int nr = kernels.nr;
    if (compute == Compute::f32 && w.dtype == DType::f32 && count == nr && reusable_in_place(w)) {
        return {reinterpret_cast<const float*>(w.data) + first, w.cols};
    }
    const DecodeFn decode = decoder(w.dtype, isa);
    const int64_t skip = dtype_bytes(w.dtype, first);
    const bool pairs = compute == Compute::bf16 && kernels.bf16_values == 2;
    alignas(64) float low[kMaxTileCols] = {}, high[kMaxTileCols] = {};
    float* out = panel;
    for (int64_t k = 0; k < w.rows; k += pairs ? 2 : 1, out += nr) {
        decode(w.row(k) + skip, low, count);
        if (pairs) {
            const bool last = k + 1 == w.rows;
            if (!last) decode(w.row(k + 1) + skip, high, count);
            kernels.pair_rows(low, last ? nullptr : high, nr, out);
        } else if (compute == Compute::bf16) {
            kernels.round_row(low, nr, out);
        } else {
            std::memcpy(out, low, static_cast<size_t>(nr) * sizeof(float));
        }
    }
    return {panel, nr};
}

void pack_gathered(const GemmKernels& kernels, Compute compute, const float* const* rows,
                   int64_t count, int64_t first, int64_t cols, float* out, int64_t ld) noexcept {
    const bool pairs = compute == Compute::bf16 && kernels.bf16_values == 2;
    for (int64_t k = 0; k < count; k += pairs ? 2 : 1, out += ld) {
        const float* row = rows[k] + first;
        if (pairs) {
            kernels.pair_rows(row, k + 1 < count ? rows[k + 1] + first : nullptr, cols, out);
        } else if (compute == Compute::bf16) {
            kernels.round_row(row, cols, out);
        } else {
            std::memcpy(out, row, static_cast<size_t>(cols) * sizeof(float));
        }
        if (ld == kernels.nr) std::fill(out + cols, out + ld, 0.0f);
    }
}

Prefetch prefetch_rows(const GemmKernels& kernels, const WeightMatrix& w, int64_t first,
                       int64_t count, int64_t rows, int64_t k) noexcept {
    if (count <= 0 || rows <= 0 || k <= 0) return {};
    const int64_t tiles = (rows + kernels.mr - 1) / kernels.mr;
    const int64_t steps = tiles * k;
    const int64_t step = (count * w.row_bytes() + steps - 1) / steps;
    return {w.row(first), step, step * k, tiles};
}

Prefetch prefetch_cols(const GemmKernels& kernels, const WeightMatrix& w, int64_t first,
                       int64_t count, int64_t rows, int64_t k) noexcept {
    if (count <= 0 || rows <= 0 || k <= 0) return {};
    const std::byte* data = w.data + dtype_bytes(w.dtype, first);
    const int64_t tiles = (rows + kernels.mr - 1) / kernels.mr;
    const int64_t rows_per_element = (w.rows + k - 1) / k;
    if (rows_per_element == 1) {  // a tile per cache line of the panel's width
        const int64_t lines = (dtype_bytes(w.dtype, count) + 63) / 64;
        return {data, w.row_bytes(), 64, std::min(tiles, lines)};
    }
    return {data, rows_per_element * w.row_bytes(), w.row_bytes(),
            std::min(tiles, rows_per_element)};
}

void gemm_outer(const GemmKernels& kernels, Compute compute, const OuterProduct& p,
                float* scratch) noexcept {
    // Rows per step: short enough for several panels in the scratch, long enough to pay for
    // reading C again in the next step. Even, for pairs.
    constexpr int64_t kDepth = 1024;
    const int64_t nr = kernels.nr;
    for (int64_t r = 0; r < p.count; r += kDepth) {
        const int64_t count = std::min(kDepth, p.count - r);
        const int64_t k = kernels.elements(compute, count);
        const int64_t group = kOuterScratch / (k * nr) * nr;  // columns packed at a time
        GemmBlock block;
        block.a = p.a + kernels.elements(compute, r);
        block.k = k;
        block.ldc = p.c.stride;
        block.accumulate = p.accumulate || r > 0;
        block.stream = p.stream && p.count <= kDepth;
        for (int64_t g = p.first; g < p.last; g += group) {
            const int64_t end = std::min(p.last, g + group);
            for (int64_t j = g; j < end; j += nr) {
                pack_gathered(kernels, compute, p.b + r, count, j, std::min(nr, end - j),
                              scratch + (j - g) * k, nr);
            }
            const int64_t height = tile_height(kernels, p.height);
            for (int64_t m = 0; m < p.height; m += height) {
                block.a_offset = m;
                block.rows = std::min(height, p.height - m);
                for (int64_t j = g; j < end; j += nr) {
                    block.b = {scratch + (j - g) * k, nr};
                    block.cols = static_cast<int>(std::min(nr, end - j));
                    block.c = p.c.row(m) + j;
                    gemm_by_cols(kernels, compute, block);
                }
            }
        }
    }
    if (p.stream) kernels.fence();
}

int64_t tile_height(const GemmKernels& kernels, int64_t rows) noexcept {
    if (rows <= 0) return 1;
    const int64_t tiles = (rows + kernels.mr - 1) / kernels.mr;
    return (rows + tiles - 1) / tiles;
}

void gemm_by_rows(const GemmKernels& kernels, Compute compute, const GemmBlock& block) noexcept {
    gemm_block<false>(kernels, compute, block);
}

void gemm_by_cols(const GemmKernels& kernels, Compute compute, const GemmBlock& block) noexcept {
    gemm_block<true>(kernels, compute, block);
}

}  // namespace muster
