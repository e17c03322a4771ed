// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/gemm.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "muster/core/buffer.h"
#include "muster/core/random.h"
#include "muster/kernels/gemm_pack.h"
#include "muster/quant/convert.h"

namespace muster {
namespace {

// Exact in bf16, small integers: every product and sum is exact, so results must be equal.
std::vector<float> integers(Random& random, int64_t n) {
    std::vector<float> v(static_cast<size_t>(n));
    for (float& x : v) x = static_cast<float>(static_cast<int>(random.below(17)) - 8);
    return v;
}

std::vector<const float*> row_pointers(const std::vector<float>& m, int64_t rows, int64_t stride) {
    std::vector<const float*> p;
    for (int64_t i = 0; i < rows; ++i) p.push_back(m.data() + i * stride);
    return p;
}

// Weight gradients of two matrices at once, into parts of C, with and without stores that bypass
// the caches (whose conditions an odd start of C does not meet).
TEST(Gemm, OuterProductsFillTheirPartOfC) {
    Random random(21);
    constexpr int64_t kCount = 37, kRows = 61, kCols = 80, kStride = 96;
    const std::vector<float> a = integers(random, kCount * kRows),
                             b = integers(random, kCount * kCols);
    const std::vector<float> other = integers(random, kCount * kRows);
    const auto a_rows = row_pointers(a, kCount, kRows), b_rows = row_pointers(b, kCount, kCols);
    const auto other_rows = row_pointers(other, kCount, kRows);
    for (Isa isa : available_isas()) {
        const GemmKernels& kernels = gemm_kernels(isa);
        Buffer<float> scratch(static_cast<size_t>(kOuterScratch));
        for (Compute compute : {Compute::f32, Compute::bf16}) {
            for (int64_t shift : {0, 1}) {
                for (int64_t step : {0, 8}) {
                    Buffer<float> c[2];
                    GemmOuter p;
                    for (int i = 0; i < 2; ++i) {
                        c[i].reserve(kRows * kStride + 1);
                        std::fill_n(c[i].data(), kRows * kStride + 1, -99.0f);
                        p.c[i] = {c[i].data() + shift, kRows, kCols, kStride};
                    }
                    p.a[0] = a_rows.data();
                    p.a[1] = other_rows.data();
                    p.b = b_rows.data();
                    p.count = kCount;
                    p.step = step;
                    p.m_first = 3;
                    p.m_last = 60;
                    p.first = 32;
                    p.last = 75;
                    p.stream = true;
                    gemm_outer(kernels, compute, p, scratch.data());
                    for (int64_t i = 0; i < kRows; ++i) {
                        for (int64_t j = 0; j < kCols; ++j) {
                            float sums[2] = {};
                            for (int64_t k = 0; k < kCount; ++k) {
                                const float y = b_rows[static_cast<size_t>(k)][j];
                                sums[0] += a_rows[static_cast<size_t>(k)][i] * y;
                                sums[1] += other_rows[static_cast<size_t>(k)][i] * y;
                            }
                            const bool inside = i >= 3 && i < 60 && j >= 32 && j < 75;
                            for (int m = 0; m < 2; ++m) {
                                ASSERT_EQ(p.c[m](i, j), inside ? sums[m] : -99.0f)
                                    << isa_name(isa) << " at " << i << ", " << j;
                            }
                        }
                    }
                }
            }
        }
    }
}

float element_value(const GemmKernels& kernels, Compute compute, const Panels& panels, int64_t k,
                    int64_t j) {
    const int64_t element = kernels.pairs(compute) ? k / 2 : k;
    const float* at =
        panels.data + j / kernels.nr * panels.stride + element * panels.ldb + j % kernels.nr;
    if (!kernels.pairs(compute)) return *at;
    uint16_t halves[2];
    std::memcpy(halves, at, sizeof(halves));
    return bf16_to_f32(halves[k % 2]);
}

// Panels hold what they should, element by element, zeros where the matrix ends, whatever the
// format and the part asked for; rows of 4 KB are those that must not be used in place.
TEST(Gemm, PanelsHoldTheirPartOfTheWeights) {
    Random random(22);
    for (DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8_0}) {
        const int64_t rows = 301, cols = 1024;
        const std::vector<float> values = integers(random, rows * cols);
        std::vector<std::byte> stored(static_cast<size_t>(dtype_bytes(dtype, rows * cols)));
        std::vector<float> decoded(values.size());
        encode_row(dtype, values.data(), stored.data(), rows * cols);
        decode_row(dtype, stored.data(), decoded.data(), rows * cols);
        const WeightMatrix w{dtype, stored.data(), rows, cols};
        for (Isa isa : available_isas()) {
            const GemmKernels& kernels = gemm_kernels(isa);
            const auto expected = [&](Compute compute, int64_t row, int64_t col) {
                const float v = decoded[static_cast<size_t>(row * cols + col)];
                return compute == Compute::f32 ? v : bf16_to_f32(f32_to_bf16(v));
            };
            std::vector<float> scratch(kPackScratch), memory(static_cast<size_t>(64 * cols));
            for (Compute compute : {Compute::f32, Compute::bf16}) {
                const PackRange by_row{32, 32 + 45, 256, 256 + 301};
                const Panels p =
                    pack_rows(kernels, compute, isa, w, by_row, scratch.data(), memory.data());
                for (int64_t j = 0; j < kernels.panels(45) * kernels.nr; ++j) {
                    for (int64_t k = 0; k < 301; ++k) {
                        const float v = j < 45 ? expected(compute, 32 + j, 256 + k) : 0.0f;
                        ASSERT_EQ(element_value(kernels, compute, p, k, j), v)
                            << isa_name(isa) << " " << dtype_info(dtype).name;
                    }
                }
                if (dtype == DType::q8_0) continue;
                for (int64_t width : {int64_t{45}, int64_t{64}}) {
                    const PackRange by_col{64, 64 + width, 0, 301};
                    const Panels q = pack_cols(kernels, compute, isa, w, by_col, memory.data());
                    for (int64_t j = 0; j < kernels.panels(width) * kernels.nr; ++j) {
                        for (int64_t k = 0; k < 301; ++k) {
                            const float v = j < width ? expected(compute, k, 64 + j) : 0.0f;
                            ASSERT_EQ(element_value(kernels, compute, q, k, j), v)
                                << isa_name(isa) << " " << dtype_info(dtype).name;
                        }
                    }
                }
            }
        }
    }
}

// Fetching ahead must stay within the weights it is told to fetch, up to the end of a step.
TEST(Gemm, PrefetchCoversItsRange) {
    std::vector<float> values(64 * 1000);
    const WeightMatrix w{DType::f32, reinterpret_cast<const std::byte*>(values.data()), 64, 1000};
    const auto data = reinterpret_cast<uintptr_t>(values.data());
    const Prefetch rows = prefetch_rows(w, {8, 40, 0, 1000}, 5, 1000);
    GemmTile t;
    uintptr_t last = data;
    for (int64_t tile = 0; tile < 5; ++tile) {
        rows.apply(tile, t);
        EXPECT_EQ(t.prefetch, data + 8 * 4000 + tile * 1000 * t.prefetch_step);
        last = t.prefetch + 999 * t.prefetch_step;
    }
    EXPECT_GE(last + t.prefetch_step, data + 40 * 4000);
    EXPECT_LT(last, data + 40 * 4000 + 1000 * 64);
    const Prefetch cols = prefetch_cols(w, {32, 64, 0, 64}, 9, 32);
    EXPECT_EQ(cols.tiles, 4);  // two lines of even and of odd rows
    cols.apply(3, t);
    EXPECT_EQ(t.prefetch, data + 4000 + 32 * 4 + 64);
    EXPECT_EQ(t.prefetch_step, 8000);
    t.b = values.data();
    cols.apply(4, t);
    EXPECT_EQ(t.prefetch, data);
    EXPECT_EQ(t.prefetch_step, 0);
}

}  // namespace
}  // namespace muster
