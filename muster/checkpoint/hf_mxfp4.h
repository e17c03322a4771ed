// SPDX-License-Identifier: Apache-2.0
// MXFP4 (OCP Microscaling Formats 1.0) as gpt-oss is published and as GGML stores it: the same
// values, in another order. Internal to checkpoint/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace muster {

inline constexpr int64_t kMxfp4Block = 32;       // values
inline constexpr int64_t kMxfp4BlockBytes = 17;  // GGML's: the scale, then 16 bytes

/// Blocks [first, first + count) in GGML's order. Published, byte j of a block (16 of them in
/// `blocks`) holds values 2 j (low half) and 2 j + 1; GGML's holds j and j + 16. The exponent of
/// a block, one byte of `scales`, is the same. In range (asserted).
void mxfp4_to_ggml(std::span<const std::byte> blocks, std::span<const std::byte> scales,
                   int64_t first, int64_t count, std::byte* out);

/// The other way round: one block's 16 bytes; its scale is ggml[0].
void mxfp4_from_ggml(const std::byte* ggml, std::byte* block) noexcept;

}  // namespace muster
