// SPDX-License-Identifier: Apache-2.0
// Rows of keys and values in their stored formats, widened to vectors of f32; included only after a
// vec_<isa>.h. Everything has internal linkage. Each format has
//   load(row, d): the lanes [d, d + kLanes), d a multiple of kLanes;
//   load_part(row, d, n): the same, the first n lanes, the others zero;
//   load_some<kCount>(row, d, out): kCount vectors from d on, d a multiple of their lanes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace muster {
namespace {

constexpr int kLanes = Vec::kLanes;
constexpr int kChunk = kLanes == 16 ? 4 : 2;  // vectors per tile row: 4 * kChunk accumulators

struct RowF32 {
    static const float* at(const std::byte* row, int64_t d) noexcept {
        return reinterpret_cast<const float*>(row) + d;
    }
    static Vec::F load(const std::byte* row, int64_t d) noexcept { return Vec::load(at(row, d)); }
    static Vec::F load_part(const std::byte* row, int64_t d, int64_t n) noexcept {
        return Vec::load_part(at(row, d), n);
    }
    template <int kCount>
    static void load_some(const std::byte* row, int64_t d, Vec::F* out) noexcept {
        for (int c = 0; c < kCount; ++c) out[c] = load(row, d + c * kLanes);
    }
};

struct RowF16 {
    static Vec::F load(const std::byte* row, int64_t d) noexcept {
        return Vec::load_f16(row + 2 * d);
    }
    static Vec::F load_part(const std::byte* row, int64_t d, int64_t n) noexcept {
        return Vec::load_f16_part(row + 2 * d, n);
    }
    template <int kCount>
    static void load_some(const std::byte* row, int64_t d, Vec::F* out) noexcept {
        for (int c = 0; c < kCount; ++c) out[c] = load(row, d + c * kLanes);
    }
};

/// Blocks of an f16 scale and 32 signed bytes; rows are whole blocks, so that no part is short.
struct RowQ8 {
    static constexpr int64_t kBlock = 32, kBytes = 34;
    static Vec::F load(const std::byte* row, int64_t d) noexcept {
        const std::byte* block = row + d / kBlock * kBytes;
        return Vec::mul(Vec::broadcast_f16(block), Vec::load_i8(block + 2 + d % kBlock));
    }
    static Vec::F load_part(const std::byte* row, int64_t d, int64_t) noexcept {
        return load(row, d);
    }
    template <int kCount>
    static void load_some(const std::byte* row, int64_t d, Vec::F* out) noexcept {
        constexpr int kEach = kBlock / kLanes < kCount ? kBlock / kLanes : kCount;  // of a block
        for (int c = 0; c < kCount; c += kEach) {
            const int64_t at = d + c * kLanes;
            const std::byte* block = row + at / kBlock * kBytes;
            const Vec::F scale = Vec::broadcast_f16(block);
            for (int i = 0; i < kEach; ++i)
                out[c + i] = Vec::mul(scale, Vec::load_i8(block + 2 + at % kBlock + i * kLanes));
        }
    }
};

}  // namespace
}  // namespace muster
