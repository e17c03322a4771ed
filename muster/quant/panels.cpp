// SPDX-License-Identifier: Apache-2.0
#include "muster/quant/panels.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "muster/core/error.h"

namespace muster {
namespace {

// The fields of GGML's blocks (ggml-common.h). Packed values and 6-bit scales in units of four
// bytes, so that a vector's lane belongs to one row. Where values are spread over several fields,
// these take turns in the order in which kernels need them: memory is fetched ahead of a reader
// that walks straight on, and of no other.
constexpr PanelPlane kQ8_0[] = {{0, 2, 1}, {2, 4, 8}};               // d, qs
constexpr PanelPlane kQ4_0[] = {{0, 2, 1}, {2, 4, 4}};               // d, qs
constexpr PanelPlane kQ4_1[] = {{0, 2, 2}, {4, 4, 4}};               // d m, qs
constexpr PanelPlane kQ5_0[] = {{0, 2, 1}, {2, 4, 1}, {6, 4, 4}};    // d, qh, qs
constexpr PanelPlane kQ5_1[] = {{0, 2, 2}, {4, 4, 1}, {8, 4, 4}};    // d m, qh, qs
constexpr PanelPlane kMxfp4[] = {{0, 1, 1}, {1, 4, 4}};              // e, qs
constexpr PanelPlane kQ2K[] = {{0, 4, 4}, {16, 4, 16}, {80, 2, 2}};  // scales, qs, d dmin
constexpr PanelPlane kQ4K[] = {{0, 2, 2}, {4, 4, 3}, {16, 4, 32}};   // d dmin, scales, qs
constexpr PanelPlane kIq4Xs[] = {{0, 2, 1}, {2, 2, 1}, {4, 4, 1}, {8, 4, 32}};  // d, sh, sl, qs

/// d dmin, scales, eight times (qh, qs), the other qs.
constexpr auto kQ5K = [] {
    std::array<PanelPlane, 19> planes = {{{0, 2, 2}, {4, 4, 3}}};
    for (int i = 0; i < 8; ++i) {
        const auto at = size_t{2} * static_cast<size_t>(i);
        planes[2 + at] = {16 + 4 * i, 4, 1};
        planes[3 + at] = {48 + 4 * i, 4, 1};
    }
    planes[18] = {80, 4, 24};
    return planes;
}();

/// Eight times (hmask, qs), the other qs, scales, d.
constexpr auto kQ3K = [] {
    std::array<PanelPlane, 19> planes = {};
    for (int i = 0; i < 8; ++i) {
        const auto at = size_t{2} * static_cast<size_t>(i);
        planes[at] = {4 * i, 4, 1};
        planes[at + 1] = {32 + 4 * i, 4, 1};
    }
    planes[16] = {64, 4, 8};
    planes[17] = {96, 4, 3};
    planes[18] = {108, 2, 1};
    return planes;
}();

/// For each half of eight times (two of ql, one of qh), scales, d.
constexpr auto kQ6K = [] {
    std::array<PanelPlane, 50> planes = {};
    for (int h = 0; h < 2; ++h) {
        for (int i = 0; i < 8; ++i) {
            const auto at = size_t{3} * static_cast<size_t>(8 * h + i);
            planes[at] = {4 * (16 * h + i), 4, 1};
            planes[at + 1] = {4 * (16 * h + 8 + i), 4, 1};
            planes[at + 2] = {128 + 4 * (8 * h + i), 4, 1};
        }
    }
    planes[48] = {192, 1, 16};
    planes[49] = {208, 2, 1};
    return planes;
}();

template <int kBytes>
void interleave(const std::byte* rows, int64_t row_bytes, int count, int units,
                std::byte* out) noexcept {
    for (int u = 0; u < units; ++u) {
        for (int r = 0; r < kPanelRows; ++r, out += kBytes) {
            std::memcpy(out, rows + (r < count ? r : 0) * row_bytes + u * kBytes, kBytes);
        }
    }
}

template <int kBytes>
void deinterleave(const std::byte* plane, int row, int units, std::byte* out) noexcept {
    for (int u = 0; u < units; ++u) {
        std::memcpy(out + u * kBytes, plane + (u * kPanelRows + row) * kBytes, kBytes);
    }
}

}  // namespace

std::span<const PanelPlane> panel_planes(DType dtype) noexcept {
    switch (dtype) {
        case DType::q8_0:
            return kQ8_0;
        case DType::q4_0:
        case DType::iq4_nl:
            return kQ4_0;
        case DType::q4_1:
            return kQ4_1;
        case DType::q5_0:
            return kQ5_0;
        case DType::q5_1:
            return kQ5_1;
        case DType::mxfp4:
            return kMxfp4;
        case DType::q2_k:
            return kQ2K;
        case DType::q3_k:
            return kQ3K;
        case DType::q4_k:
            return kQ4K;
        case DType::q5_k:
            return kQ5K;
        case DType::q6_k:
            return kQ6K;
        case DType::iq4_xs:
            return kIq4Xs;
        default:
            return {};
    }
}

bool panels_fit(const WeightMatrix& w) noexcept {
    return w.rows % kPanelRows == 0 && !panel_planes(w.dtype).empty();
}

void pack_chunk(DType dtype, const std::byte* rows, int64_t row_bytes, int count, int64_t blocks,
                std::byte* out) noexcept {
    const int64_t block_bytes = dtype_info(dtype).block_bytes;
    for (const PanelPlane& plane : panel_planes(dtype)) {
        for (int64_t b = 0; b < blocks; ++b) {
            const std::byte* from = rows + b * block_bytes + plane.offset;
            switch (plane.bytes) {
                case 1:
                    interleave<1>(from, row_bytes, count, plane.count, out);
                    break;
                case 2:
                    interleave<2>(from, row_bytes, count, plane.count, out);
                    break;
                default:
                    interleave<4>(from, row_bytes, count, plane.count, out);
            }
            out += kPanelRows * plane.bytes * plane.count;
        }
    }
}

void pack_panels(const WeightMatrix& w, int64_t first, int64_t last, std::byte* out) noexcept {
    MUSTER_ASSERT(w.layout == WeightLayout::rows && panels_fit(w));
    const DTypeInfo& info = dtype_info(w.dtype);
    const int64_t blocks = w.cols / info.block_elements;
    const int64_t chunk = kPanelChunk / info.block_elements;
    for (int64_t p = first; p < last; ++p) {
        for (int64_t b = 0; b < blocks; b += chunk) {
            const int64_t n = std::min(chunk, blocks - b);
            pack_chunk(w.dtype, w.row(p * kPanelRows) + b * info.block_bytes, w.row_bytes(),
                       kPanelRows, n, out);
            out += kPanelRows * n * info.block_bytes;
        }
    }
}

void unpack_row(const WeightMatrix& w, int64_t row, std::byte* out) noexcept {
    MUSTER_ASSERT(w.layout == WeightLayout::panels);
    const DTypeInfo& info = dtype_info(w.dtype);
    const int64_t blocks = w.cols / info.block_elements;
    const int64_t chunk = kPanelChunk / info.block_elements;
    const int lane = static_cast<int>(row % kPanelRows);
    const std::byte* in = w.row(row - lane);
    for (int64_t b = 0; b < blocks; b += chunk, out += chunk * info.block_bytes) {
        const int64_t n = std::min(chunk, blocks - b);
        for (const PanelPlane& plane : panel_planes(w.dtype)) {
            for (int64_t i = 0; i < n; ++i) {
                std::byte* to = out + i * info.block_bytes + plane.offset;
                if (plane.bytes == 1) deinterleave<1>(in, lane, plane.count, to);
                if (plane.bytes == 2) deinterleave<2>(in, lane, plane.count, to);
                if (plane.bytes == 4) deinterleave<4>(in, lane, plane.count, to);
                in += kPanelRows * plane.bytes * plane.count;
            }
        }
    }
}

}  // namespace muster
