// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/gemm.h"

#include <algorithm>
#include <cstring>

#include "muster/kernels/gemm_pack.h"
#include "muster/quant/convert.h"

namespace muster {

const GemmKernels& gemm_kernels_avx2() noexcept;
const GemmKernels& gemm_kernels_avx512() noexcept;
const GemmKernels& gemm_kernels_amx() noexcept;

namespace {

// The reference: plain loops over tiles small enough for any machine's registers.
constexpr int kReferenceRows = 4;
constexpr int kReferenceCols = 8;

template <int kRows, bool kByCols>
void reference_tile(const GemmTile& t) noexcept {
    float sums[kRows][kReferenceCols] = {};
    for (int64_t k = 0; k < t.k; ++k) {
        for (int i = 0; i < kRows; ++i) {
            const float x = kByCols ? t.a[0][k * t.a_offset + i] : t.a[i][t.a_offset + k];
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

void reference_copy(const float* values, int64_t n, float* elements, int64_t stride) noexcept {
    for (int64_t i = 0; i < n; ++i) {
        elements[i / kReferenceCols * stride + i % kReferenceCols] = values[i];
    }
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
        k.copy_row = reference_copy;
        return k;
    }();
    return kernels;
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

// What all tiles of a product share, and one tile of it.
struct TileRunner {
    const GemmKernels& kernels;
    const GemmTileFn* tiles;  ///< by height - 1
    GemmTile t;

    void run(int64_t m, int64_t cols) const noexcept {
        if (cols >= kernels.nr) return tiles[m - 1](t);
        run_edge_tile(kernels, tiles[m - 1], t, m, static_cast<int>(cols));
    }
};

}  // namespace

const GemmKernels& gemm_kernels(Isa isa) noexcept {
#if MUSTER_X86
    if (isa == Isa::amx) return gemm_kernels_amx();
    if (isa == Isa::avx512) return gemm_kernels_avx512();
    if (isa == Isa::avx2) return gemm_kernels_avx2();
#endif
    (void)isa;
    return reference_kernels();
}

void gemm_rows(const GemmKernels& kernels, Compute compute, const GemmRows& p) noexcept {
    TileRunner runner{kernels, kernels.by_rows[static_cast<int>(compute)], {}};
    GemmTile& t = runner.t;
    t.a_offset = p.rounded != nullptr ? 0 : p.a_offset;
    t.ldb = p.b.ldb;
    t.ldc = p.ldc;
    t.k = p.k;
    t.accumulate = p.accumulate;
    const float* rounded[kMaxTileRows];
    const int64_t height = tile_height(kernels, p.rows);
    int64_t tile = 0;
    for (int64_t r = 0; r < p.rows; r += height) {
        const int64_t m = std::min(height, p.rows - r);
        t.a = p.a + r;
        t.b = p.b.data;
        if (p.rounded != nullptr) {
            for (int64_t i = 0; i < m; ++i) {
                float* row = p.rounded + i * GemmRows::round_stride(p.k);
                kernels.round_row(p.a[r + i] + p.a_offset, p.values, row);
                rounded[i] = row;
            }
            t.a = rounded;
        }
        for (int64_t j = 0; j < p.cols; j += kernels.nr, t.b += p.b.stride, ++tile) {
            t.c = p.c + r * p.ldc + j;
            p.prefetch.apply(tile, t);
            runner.run(m, p.cols - j);
        }
    }
}

namespace {

// Rows of a step of gemm_outer, in elements: with 64 columns of A and B packed they fill half of
// the scratch each; longer steps would pack fewer, shorter ones read C more often.
constexpr int64_t kOuterDepth = 512;
constexpr int64_t kOuterHalf = kOuterScratch / 2;

struct OuterStep {
    const GemmKernels& kernels;
    Compute compute;
    const GemmOuter& p;
    int64_t row, count, k;  ///< rows of this step, elements that they make
    float *a_packed, *b_packed;

    // C rows [m_first, m_last) with the packed columns [first, last) of B.
    void block(int matrix, int64_t m_first, int64_t m_last, int64_t first,
               int64_t last) const noexcept {
        const int64_t nr = kernels.nr, height = tile_height(kernels, m_last - m_first);
        const int64_t ld = m_last - m_first;
        const MatrixView<float>& c = p.c[matrix];
        pack_gathered(kernels, compute, p.a[matrix] + row, count, {m_first, m_last}, a_packed, ld,
                      kernels.nr);
        TileRunner runner{kernels, kernels.by_cols[static_cast<int>(compute)], {}};
        GemmTile& t = runner.t;
        t.a_offset = ld;
        t.ldb = nr;
        t.ldc = c.stride;
        t.k = k;
        t.accumulate = p.accumulate || row > 0;
        t.stream = p.stream && !t.accumulate && count == p.count && can_stream(c.data, c.stride);
        t.prefetch = reinterpret_cast<uintptr_t>(b_packed);
        for (int64_t m = m_first; m < m_last; m += height) {
            const float* a = a_packed + (m - m_first);
            t.a = &a;
            t.b = b_packed;
            for (int64_t j = first; j < last; j += nr, t.b += k * nr) {
                t.c = c.row(m) + j;
                runner.run(std::min(height, m_last - m), last - j);
            }
        }
    }
};

}  // namespace

void gemm_outer(const GemmKernels& kernels, Compute compute, const GemmOuter& p,
                float* scratch) noexcept {
    const int64_t nr = kernels.nr;
    const int64_t most = kOuterDepth * (kernels.pairs(compute) ? 2 : 1);
    const int64_t depth = p.step > 0 ? std::min(p.step, most) : most;
    for (int64_t r = 0; r < p.count; r += depth) {
        const int64_t count = std::min(depth, p.count - r);
        const int64_t k = kernels.elements(compute, count);
        const OuterStep step{kernels, compute, p, r, count, k, scratch, scratch + kOuterHalf};
        const int64_t cols = kOuterHalf / (k * nr) * nr;
        const int64_t rows = kOuterHalf / (k * kernels.mr) * kernels.mr;
        for (int64_t j = p.first; j < p.last; j += cols) {
            const int64_t last = std::min(p.last, j + cols);
            pack_gathered(kernels, compute, p.b + r, count, {j, last}, step.b_packed, nr, k * nr);
            for (int64_t m = p.m_first; m < p.m_last; m += rows) {
                const int64_t m_last = std::min(p.m_last, m + rows);
                step.block(0, m, m_last, j, last);
                if (p.a[1] != nullptr) step.block(1, m, m_last, j, last);
            }
        }
    }
    if (p.stream) kernels.fence();
}

}  // namespace muster
