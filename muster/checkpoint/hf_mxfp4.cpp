// SPDX-License-Identifier: Apache-2.0
// Published order: huggingface/transformers, integrations/mxfp4.py (convert_moe_packed_tensors).
#include "muster/checkpoint/hf_mxfp4.h"

#include "muster/core/error.h"

namespace muster {
namespace {

constexpr int64_t kHalf = kMxfp4Block / 2;

std::byte low(std::byte b) { return b & std::byte{15}; }

}  // namespace

void mxfp4_to_ggml(std::span<const std::byte> blocks, std::span<const std::byte> scales,
                   int64_t first, int64_t count, std::byte* out) {
    MUSTER_ASSERT(first >= 0 && first + count <= std::ssize(scales));
    MUSTER_ASSERT((first + count) * kHalf <= std::ssize(blocks));
    const std::byte* in = blocks.data() + first * kHalf;
    for (int64_t b = first; b < first + count; ++b, in += kHalf) {
        *out++ = scales[static_cast<size_t>(b)];
        for (int64_t j = 0; j < kHalf; ++j) {
            const auto value = [in](int64_t i) {
                return low(i % 2 == 0 ? in[i / 2] : in[i / 2] >> 4);
            };
            *out++ = value(j) | value(j + kHalf) << 4;
        }
    }
}

void mxfp4_from_ggml(const std::byte* ggml, std::byte* block) noexcept {
    const std::byte* in = ggml + 1;
    for (int64_t j = 0; j < kHalf; ++j) {
        const auto value = [in](int64_t i) { return low(i < kHalf ? in[i] : in[i - kHalf] >> 4); };
        block[j] = value(2 * j) | value(2 * j + 1) << 4;
    }
}

}  // namespace muster
