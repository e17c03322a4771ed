// SPDX-License-Identifier: Apache-2.0
// The tile kernel written once over Vec; included only by gemm_<isa>.cpp after its vec_<isa>.h.
// Everything has internal linkage.
#pragma once

#include "muster/kernels/gemm.h"

namespace muster {
namespace {

constexpr int kNr = 2 * Vec::kLanes;

// How many k ahead of its use B is fetched: 300 cycles.
constexpr int64_t kAhead = 24;

struct MultiplyF32 {
    static Vec::F apply(Vec::F a, Vec::F b, Vec::F c) noexcept { return Vec::fma(a, b, c); }
};

// 2 * kM accumulators, two vectors of B and one of A have to fit into the registers.
template <typename Multiply, int kM, bool kByCols>
void tile(const GemmTile& t) noexcept {
    using F = Vec::F;
    F acc[kM][2];
    const float* a[kM];
    for (int i = 0; i < kM; ++i) {
        acc[i][0] = acc[i][1] = Vec::zero();
        a[i] = kByCols ? nullptr : t.a[i] + t.a_offset;
    }
    const float* b = t.b;
    const float* column = t.a[0];
    const int64_t ldb = t.ldb, lda = kByCols ? t.a_offset : 0;
    uintptr_t prefetch = t.prefetch;  // addresses, for they pass the ends of arrays
    const int64_t ahead = kAhead * ldb * static_cast<int64_t>(sizeof(float));
    for (int64_t k = 0; k < t.k; ++k, b += ldb, column += lda, prefetch += t.prefetch_step) {
        _mm_prefetch(reinterpret_cast<const char*>(prefetch), _MM_HINT_T0);
        if (!kByCols) {  // B comes from the second-level cache, perhaps in long strides
            const uintptr_t next = reinterpret_cast<uintptr_t>(b) + ahead;
            _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T0);
            _mm_prefetch(reinterpret_cast<const char*>(next + sizeof(Vec::F)), _MM_HINT_T0);
        }
        const F b0 = Vec::load(b);
        const F b1 = Vec::load(b + Vec::kLanes);
#pragma GCC unroll 16
        for (int i = 0; i < kM; ++i) {
            const F x = Vec::broadcast(kByCols ? column + i : a[i] + k);
            acc[i][0] = Multiply::apply(x, b0, acc[i][0]);
            acc[i][1] = Multiply::apply(x, b1, acc[i][1]);
        }
    }
    if (t.stream) {
#pragma GCC unroll 16
        for (int i = 0; i < kM; ++i) {
            Vec::stream(t.c + i * t.ldc, acc[i][0]);
            Vec::stream(t.c + i * t.ldc + Vec::kLanes, acc[i][1]);
        }
        return;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kM; ++i) {
        float* c = t.c + i * t.ldc;
        F c0 = acc[i][0], c1 = acc[i][1];
        if (t.accumulate) {
            c0 = Vec::add(Vec::load(c), c0);
            c1 = Vec::add(Vec::load(c + Vec::kLanes), c1);
        }
        Vec::store(c, c0);
        Vec::store(c + Vec::kLanes, c1);
    }
}

template <typename Multiply, int kM = 1, int kMost>
constexpr void fill_tiles(GemmKernels& kernels, Compute compute) {
    const int c = static_cast<int>(compute);
    kernels.by_rows[c][kM - 1] = tile<Multiply, kM, false>;
    kernels.by_cols[c][kM - 1] = tile<Multiply, kM, true>;
    if constexpr (kM < kMost) fill_tiles<Multiply, kM + 1, kMost>(kernels, compute);
}

void fence() noexcept { _mm_sfence(); }

void copy_row(const float* values, int64_t n, float* elements, int64_t stride) noexcept {
    for (int64_t i = 0; i < n; i += kNr, elements += stride) {
        Vec::store_part(elements, Vec::load_part(values + i, n - i), n - i);
        if (n - i <= Vec::kLanes) return;
        const int64_t rest = n - i - Vec::kLanes;
        const Vec::F high = Vec::load_part(values + i + Vec::kLanes, rest);
        Vec::store_part(elements + Vec::kLanes, high, rest);
    }
}

void transpose_rows(const float* const* rows, int count, int64_t k, float* panel) noexcept {
    constexpr int kL = Vec::kLanes;
    int64_t k0 = 0;
    if (count == kNr) {  // the common case without masks
        for (; k0 + kL <= k; k0 += kL) {
            for (int half = 0; half < 2; ++half) {
                Vec::F r[kL];
                for (int i = 0; i < kL; ++i) r[i] = Vec::load(rows[half * kL + i] + k0);
                Vec::transpose(r);
                float* out = panel + k0 * kNr + half * kL;
                for (int i = 0; i < kL; ++i) Vec::store(out + i * kNr, r[i]);
            }
        }
    }
    for (; k0 < k; k0 += kL) {
        const int64_t depth = k - k0 < kL ? k - k0 : kL;
        for (int half = 0; half < 2; ++half) {
            Vec::F r[kL];
            for (int i = 0; i < kL; ++i) {
                const int row = half * kL + i;
                r[i] = row < count ? Vec::load_part(rows[row] + k0, depth) : Vec::zero();
            }
            Vec::transpose(r);
            float* out = panel + k0 * kNr + half * kL;
            for (int i = 0; i < depth; ++i) Vec::store(out + i * kNr, r[i]);
        }
    }
}

}  // namespace
}  // namespace muster
