// SPDX-License-Identifier: Apache-2.0
// The streaming product written once over Vec and a loader per format; included only by
// matmul_stream_<isa>.cpp after its vec_<isa>.h. Everything has internal linkage.
//
// A loader says how many bytes a unit of 32 weights takes, and widens one:
//   static constexpr int64_t kUnitBytes;
//   static void load(const std::byte* unit, Vec::F (&w)[kVecs]);
//   static constexpr bool kScaled;
//   static Vec::F scale(const std::byte* unit);  // where kScaled: a factor of the whole unit
#pragma once

#include "muster/kernels/matmul_stream.h"

namespace muster {
namespace {

constexpr int64_t kUnit = 32;
constexpr int kVecs = kUnit / Vec::kLanes;

// How far ahead of its use a weight is fetched: measured, 16 KB and more come within 5 % of a plain
// read loop, 8 KB within 15 %; the hardware alone reaches a third of it (several rows at once are
// several short streams).
constexpr int64_t kAheadBytes = 16 << 10;

// kRows rows of w and kM of x at once. The order of a sum depends on neither.
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
            const std::byte* unit = w + r * row_bytes;
            Load::load(unit, values);
            if constexpr (Load::kScaled) {
                add_scaled(r, Load::scale(unit), values, x, k);
            } else {
                add(r, values, x, k);
            }
        }
    }
    float sum(int r, int i) const noexcept {
        return Vec::sum(Vec::add(sums[r][i][0], sums[r][i][1]));
    }

  private:
    // Even and odd vectors in sums of their own: twice as many independent chains.
    void add(int r, const Vec::F (&values)[kVecs], const float* const* x, int64_t k) noexcept {
#pragma GCC unroll 8
        for (int i = 0; i < kM; ++i) {
#pragma GCC unroll 8
            for (int v = 0; v < kVecs; ++v) {
                sums[r][i][v % 2] =
                    Vec::fma(values[v], Vec::load(x[i] + k + v * Vec::kLanes), sums[r][i][v % 2]);
            }
        }
    }
    // The unit's sum first, then its factor: fewer products than scaling the weights.
    void add_scaled(int r, Vec::F scale, const Vec::F (&values)[kVecs], const float* const* x,
                    int64_t k) noexcept {
#pragma GCC unroll 8
        for (int i = 0; i < kM; ++i) {
            Vec::F unit = Vec::mul(values[0], Vec::load(x[i] + k));
#pragma GCC unroll 8
            for (int v = 1; v < kVecs; ++v) {
                unit = Vec::fma(values[v], Vec::load(x[i] + k + v * Vec::kLanes), unit);
            }
            sums[r][i][0] = Vec::fma(scale, unit, sums[r][i][0]);
        }
    }
};

// The last columns, fewer than a unit, padded with zeros. Only formats without blocks have them.
template <typename Load, int kRows, int kM>
__attribute__((noinline)) void add_rest(StreamBlock<Load, kRows, kM>& block, const StreamProduct& p,
                                        const std::byte* w, const float* const* x,
                                        int64_t k) noexcept {
    alignas(64) std::byte units[kRows][kUnit * sizeof(float)] = {};
    alignas(64) float x_units[kM][kUnit] = {};
    const float* x_rows[kM];
    const int64_t bytes = (p.cols - k) * (Load::kUnitBytes / kUnit);
    for (int r = 0; r < kRows; ++r) std::memcpy(units[r], w + r * p.row_bytes, bytes);
    for (int m = 0; m < kM; ++m) {
        std::memcpy(x_units[m], x[m] + k, (p.cols - k) * sizeof(float));
        x_rows[m] = x_units[m];
    }
    block.step(units[0], kUnit * sizeof(float), x_rows, 0);
}

// Rows [j, j + kRows) of w, [i, i + kM) of x; `ahead`: the address of what to fetch meanwhile, as
// many bytes, which may lie past the end of the weights.
template <typename Load, int kRows, int kM>
void stream_rows(const StreamProduct& p, int64_t j, int64_t i, uintptr_t ahead) noexcept {
    StreamBlock<Load, kRows, kM> block;
    block.clear();
    const float* x[kM];
    for (int m = 0; m < kM; ++m) x[m] = p.x[i + m];
    const std::byte* w = p.w + j * p.row_bytes;
    int64_t k = 0;
    for (; k + kUnit <= p.cols; k += kUnit, w += Load::kUnitBytes) {
        for (int64_t line = 0; line < kRows * Load::kUnitBytes; line += 64) {
            _mm_prefetch(reinterpret_cast<const char*>(ahead + line), _MM_HINT_T0);
        }
        ahead += kRows * Load::kUnitBytes;
        block.step(w, p.row_bytes, x, k);
    }
    if (k < p.cols) {  // on a copy, so that the loop's sums may live in registers
        StreamBlock<Load, kRows, kM> padded = block;
        add_rest(padded, p, w, x, k);
        block = padded;
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (int m = 0; m < kM; ++m) p.out[(i + m) * p.ldo + j + r] = block.sum(r, m);
    }
}

template <typename Load, int kRows, int kM>
void stream_group(const StreamProduct& p, int64_t i) noexcept {
    const int64_t ahead = (kAheadBytes / (p.row_bytes * kRows) + 1) * kRows;  // rows
    // Past the end of the task's rows comes what this worker reads next, not what others read.
    const auto fetch = [&](int64_t row) {
        const auto w = reinterpret_cast<uintptr_t>(p.w), next = reinterpret_cast<uintptr_t>(p.next);
        if (row < p.rows) return w + row * p.row_bytes;
        return next != 0 ? next + (row - p.rows) * p.row_bytes : w;
    };
    const int64_t head = (ahead < p.rows ? ahead : p.rows) * p.row_bytes;
    for (int64_t byte = 0; byte < head; byte += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(p.w) + byte, _MM_HINT_T0);
    }
    int64_t j = 0;
    for (; j + kRows <= p.rows; j += kRows) stream_rows<Load, kRows, kM>(p, j, i, fetch(j + ahead));
    for (; j < p.rows; ++j) stream_rows<Load, 1, kM>(p, j, i, fetch(j + ahead));
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
    static constexpr bool kScaled = false;
    static constexpr int64_t kUnitBytes = kUnit * 4;
    static void load(const std::byte* unit, Vec::F (&w)[kVecs]) noexcept {
        for (int v = 0; v < kVecs; ++v) {
            w[v] = Vec::load(reinterpret_cast<const float*>(unit) + v * Vec::kLanes);
        }
    }
};

}  // namespace
}  // namespace muster
