// SPDX-License-Identifier: Apache-2.0
// Products of bf16 pairs on the tile registers of AMX (Intel's Architecture Instruction Set
// Extensions, chapter 3): a register holds 16 rows of 16 elements, and TDPBF16PS adds the product
// of two of them to a third. Packed panels are already what it reads as its right side. Everything
// else is AVX-512's.
// clang-format off: the vectors come first
#include "muster/cpu/vec_avx512.h"
#include "muster/kernels/gemm.h"
// clang-format on

namespace muster {

const GemmKernels& gemm_kernels_avx512() noexcept;

namespace {

constexpr int kSide = 16;  // rows of a tile register and elements of each
constexpr int kNr = 2 * kSide;

// What LDTILECFG reads.
struct alignas(64) TileShapes {
    uint8_t palette = 1;
    uint8_t start_row = 0;
    uint8_t reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
};

// Registers 0 and 1 are C, 2 is A, each of `rows` rows; 3 and 4 are B.
constexpr TileShapes shapes(int rows) {
    TileShapes s;
    for (int i = 0; i < 5; ++i) {
        s.row_bytes[i] = kSide * sizeof(float);
        s.rows[i] = static_cast<uint8_t>(i < 3 ? rows : kSide);
    }
    return s;
}

// g++ 12 does not know that tile instructions read and write memory: between those and others'
// accesses to the same memory nothing may move.
void order_memory() noexcept { __asm__ volatile("" ::: "memory"); }

// Setting the shapes costs as much as a short product and looking at them a tenth of it, so they
// stay set after a product; other code of this thread that uses tiles sets its own.
void set_shapes(const TileShapes& wanted) noexcept {
    TileShapes now;
    _tile_storeconfig(&now);
    order_memory();
    const __m512i difference =
        _mm512_xor_si512(_mm512_load_si512(&now), _mm512_load_si512(&wanted));
    if (_mm512_test_epi32_mask(difference, difference) != 0) _tile_loadconfig(&wanted);
}

// Rows of A for one multiplication, in a buffer: elements [k, k + depth) of each, then zeros.
template <int kM, bool kByCols>
void gather(const GemmTile& t, int64_t k, int64_t depth, float* out) noexcept {
    if constexpr (kByCols) {
        Vec::F r[kSide];
        for (int i = 0; i < kSide; ++i) {
            r[i] = i < depth ? Vec::load_part(t.a[0] + (k + i) * t.a_offset, kM) : Vec::zero();
        }
        Vec::transpose(r);
        for (int i = 0; i < kM; ++i) Vec::store(out + i * kSide, r[i]);
    } else {
        for (int i = 0; i < kM; ++i) {
            Vec::store(out + i * kSide, Vec::load_part(t.a[i] + t.a_offset + k, depth));
        }
    }
}

// The last rows of B, then zeros.
void gather_b(const float* b, int64_t ldb, int64_t depth, float* out) noexcept {
    for (int64_t i = 0; i < kSide; ++i) {
        for (int64_t j = 0; j < kNr; j += kSide) {
            Vec::store(out + i * kNr + j, i < depth ? Vec::load(b + i * ldb + j) : Vec::zero());
        }
    }
}

void multiply(const float* a, int64_t a_stride, const float* b, int64_t b_stride) noexcept {
    constexpr int64_t kBytes = sizeof(float);
    order_memory();
    _tile_loadd(2, a, a_stride * kBytes);
    _tile_loadd(3, b, b_stride * kBytes);
    _tile_loadd(4, b + kSide, b_stride * kBytes);
    _tile_dpbf16ps(0, 2, 3);
    _tile_dpbf16ps(1, 2, 4);
}

// The distance between the rows of A in elements, or 0 where they do not lie evenly.
template <int kM>
int64_t even_stride(const float* const* a) noexcept {
    if constexpr (kM == 1) return kSide;  // any
    const int64_t stride = a[kM > 1 ? 1 : 0] - a[0];
    for (int i = 2; i < kM; ++i) {
        if (a[i] - a[i - 1] != stride) return 0;
    }
    return stride;
}

template <int kM>
void stream_c(const GemmTile& t) noexcept {
    alignas(64) float c[kM * kNr];
    _tile_stored(0, c, kNr * sizeof(float));
    _tile_stored(1, c + kSide, kNr * sizeof(float));
    order_memory();
    for (int i = 0; i < kM; ++i) {
        Vec::stream(t.c + i * t.ldc, Vec::load(c + i * kNr));
        Vec::stream(t.c + i * t.ldc + kSide, Vec::load(c + i * kNr + kSide));
    }
}

template <int kM, bool kByCols>
void tile(const GemmTile& t) noexcept {
    static constexpr TileShapes kShapes = shapes(kM);
    alignas(64) float a[kM * kSide];
    set_shapes(kShapes);
    const int64_t c_bytes = t.ldc * static_cast<int64_t>(sizeof(float));
    order_memory();
    if (t.accumulate) {
        _tile_loadd(0, t.c, c_bytes);
        _tile_loadd(1, t.c + kSide, c_bytes);
    } else {
        _tile_zero(0);
        _tile_zero(1);
    }
    const int64_t stride = kByCols ? 0 : even_stride<kM>(t.a);
    const float* b = t.b;
    int64_t k = 0;
    for (; k + kSide <= t.k; k += kSide, b += kSide * t.ldb) {
        for (int64_t i = 0; t.prefetch_step != 0 && i < kSide; ++i) {
            _mm_prefetch(reinterpret_cast<const char*>(t.prefetch + (k + i) * t.prefetch_step),
                         _MM_HINT_T0);
        }
        if (stride != 0) {
            multiply(t.a[0] + t.a_offset + k, stride, b, t.ldb);
        } else {
            gather<kM, kByCols>(t, k, kSide, a);
            multiply(a, kSide, b, t.ldb);
        }
    }
    if (k < t.k) {
        alignas(64) float rest[kSide * kNr];
        gather<kM, kByCols>(t, k, t.k - k, a);
        gather_b(b, t.ldb, t.k - k, rest);
        multiply(a, kSide, rest, kNr);
    }
    if (t.stream) return stream_c<kM>(t);
    _tile_stored(0, t.c, c_bytes);
    _tile_stored(1, t.c + kSide, c_bytes);
    order_memory();
}

template <int kM = 1>
void fill_tiles(GemmKernels& kernels) noexcept {
    constexpr int kBf16 = static_cast<int>(Compute::bf16);
    kernels.by_rows[kBf16][kM - 1] = tile<kM, false>;
    kernels.by_cols[kBf16][kM - 1] = tile<kM, true>;
    if constexpr (kM < kMaxTileRows) fill_tiles<kM + 1>(kernels);
}

}  // namespace

const GemmKernels& gemm_kernels_amx() noexcept {
    static const GemmKernels kernels = [] {
        GemmKernels k = gemm_kernels_avx512();
        fill_tiles(k);
        return k;
    }();
    return kernels;
}

}  // namespace muster
