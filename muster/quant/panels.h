// SPDX-License-Identifier: Apache-2.0
// Block formats as the matrix kernels read them: the rows of a weight matrix in panels of 16, so
// that one vector holds the same few values of 16 rows and no sum runs across a vector.
//
// A panel is a sequence of chunks of 256 values (the last one of a row may be shorter), a chunk a
// sequence of planes. A plane is a field of the format's block, such as its scale or its packed
// values, cut into units of 1, 2 or 4 bytes: for each block of the chunk and each unit of the field
// the units of 16 rows stand side by side. It is the file's bytes in another order: a panel is as
// large as its 16 rows, and nothing is rounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "muster/core/tensor_view.h"

namespace muster {

inline constexpr int kPanelRows = 16;
inline constexpr int64_t kPanelChunk = 256;  ///< values of one row

/// A field of a block: `count` units of `bytes` bytes each, from byte `offset` of the block.
struct PanelPlane {
    int offset;
    int bytes;
    int count;
};

/// The planes of a block format, in the order in which a chunk holds them; empty for plain formats,
/// which have no panels.
std::span<const PanelPlane> panel_planes(DType dtype) noexcept;

/// Whether the matrix can be laid out in panels: a block format, rows a multiple of 16.
bool panels_fit(const WeightMatrix& w) noexcept;

/// Interleaves a chunk: `count` (1 to 16) rows, `row_bytes` apart, of `blocks` blocks each. `out`
/// receives 16 rows of blocks; rows that are missing are copies of the first.
void pack_chunk(DType dtype, const std::byte* rows, int64_t row_bytes, int count, int64_t blocks,
                std::byte* out) noexcept;

/// Interleaves panels [first, last) of `w` (WeightLayout::rows, panels_fit()) into `out`, which has
/// room for as many bytes.
void pack_panels(const WeightMatrix& w, int64_t first, int64_t last, std::byte* out) noexcept;

/// The reverse for one row of a matrix in panels: its blocks as in files, row_bytes() of them.
void unpack_row(const WeightMatrix& w, int64_t row, std::byte* out) noexcept;

}  // namespace muster
