// SPDX-License-Identifier: Apache-2.0
// The streaming product written once over Vec and a loader per format; included only by
// matmul_stream_<isa>.cpp after its vec_<isa>.h. Everything has internal linkage.
//
// A loader says how many bytes a unit of 32 weights takes, and widens one:
//   static constexpr int64_t kUnitBytes;
//   static void load(const std::byte* unit, Vec::F (&w)[kVecs]);
#pragma once

#include "muster/kernels/matmul_stream.h"

namespace muster {
namespace {

constexpr int64_t kUnit = 32;
constexpr int kVecs = kUnit / Vec::kLanes;

// kRows rows of w and kM of x at once; each pair sums even and odd vectors apart.
template <typename Load, int kRows, int kM>
struct StreamBlock {
    Vec::F sums[kRows][kM][2];

    void clear() noexcept {
        for (auto& row : sums) {
            for (auto& pair : row) pair[0] = pair[1] = Vec::zero();
        }
    }
    void step(const std::byte* w, int64_t row_bytes, const float* const* x, int64_t k) noexcept {
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
            Vec::F values[kVecs];
            Load::load(w + r * row_bytes, values);
#pragma GCC unroll 8
            for (int i = 0; i < kM; ++i) {
#pragma GCC unroll 8
                for (int v = 0; v < kVecs; ++v) {
                    sums[r][i][v % 2] = Vec::fma(values[v], Vec::load(x[i] + k + v * Vec::kLanes),
                                                 sums[r][i][v % 2]);
                }
            }
        }
    }
};

template <typename Load, int kRows, int kM>
void stream_rows(const StreamProduct& p, int64_t j, int64_t i) noexcept {
    StreamBlock<Load, kRows, kM> block;
    block.clear();
    const float* x[kM];
    for (int m = 0; m < kM; ++m) x[m] = p.x[i + m];
    const std::byte* w = p.w + j * p.row_bytes;
    // The block's rows are one stretch of memory: fetch what follows it at the pace of reading.
    const char* ahead = reinterpret_cast<const char*>(w) + kRows * p.row_bytes;
    int64_t k = 0;
    for (; k + kUnit <= p.cols; k += kUnit, w += Load::kUnitBytes) {
        for (int64_t line = 0; line < kRows * Load::kUnitBytes; line += 64) {
            _mm_prefetch(ahead + line, _MM_HINT_T0);
        }
        ahead += kRows * Load::kUnitBytes;
        block.step(w, p.row_bytes, x, k);
    }
    if (k < p.cols) {  // the rest, padded with zeros
        alignas(64) std::byte rest[kRows][kUnit * sizeof(float)] = {};
        alignas(64) float x_rest[kM][kUnit] = {};
        const float* x_rows[kM];
        const int64_t bytes = (p.cols - k) * (Load::kUnitBytes / kUnit);
        for (int r = 0; r < kRows; ++r) std::memcpy(rest[r], w + r * p.row_bytes, bytes);
        for (int m = 0; m < kM; ++m) {
            std::memcpy(x_rest[m], x[m] + k, (p.cols - k) * sizeof(float));
            x_rows[m] = x_rest[m];
        }
        block.step(rest[0], kUnit * sizeof(float), x_rows, 0);
    }
    for (int r = 0; r < kRows; ++r) {
        for (int m = 0; m < kM; ++m) {
            p.out[(i + m) * p.ldo + j + r] =
                Vec::sum(Vec::add(block.sums[r][m][0], block.sums[r][m][1]));
        }
    }
}

template <typename Load, int kRows, int kM>
void stream_group(const StreamProduct& p, int64_t i) noexcept {
    int64_t j = 0;
    for (; j + kRows <= p.rows; j += kRows) stream_rows<Load, kRows, kM>(p, j, i);
    for (; j < p.rows; ++j) stream_rows<Load, 1, kM>(p, j, i);
}

// After the first group of rows of x, the task's weights come from the cache.
template <typename Load>
void stream_product(const StreamProduct& p) noexcept {
    int64_t i = 0;
    for (; i + 4 <= p.m; i += 4) stream_group<Load, kStreamRows4, 4>(p, i);
    for (; i + 2 <= p.m; i += 2) stream_group<Load, kStreamRows2, 2>(p, i);
    for (; i < p.m; ++i) stream_group<Load, kStreamRows1, 1>(p, i);
}

struct LoadF32 {
    static constexpr int64_t kUnitBytes = kUnit * 4;
    static void load(const std::byte* unit, Vec::F (&w)[kVecs]) noexcept {
        for (int v = 0; v < kVecs; ++v) {
            w[v] = Vec::load(reinterpret_cast<const float*>(unit) + v * Vec::kLanes);
        }
    }
};

}  // namespace
}  // namespace muster
