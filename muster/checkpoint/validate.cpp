// SPDX-License-Identifier: Apache-2.0
#include "muster/checkpoint/validate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "muster/checkpoint/tensor_checks.h"
#include "muster/core/error.h"
#include "muster/quant/quantize.h"

namespace muster {
namespace {

/// NaN and infinities are the values whose exponent bits are all ones. `one` has the lowest bit of
/// the exponent set in every lane of a word: added to the exponent alone it carries into the sign's
/// place exactly when the exponent is all ones, and never out of the lane.
struct Lanes {
    uint64_t exponent;
    uint64_t one;
    uint64_t sign;

    constexpr uint64_t bad(uint64_t word) const noexcept {
        return ((word & exponent) + one) & sign;
    }
};
constexpr Lanes kF32{0x7f8000007f800000, 0x0080000000800000, 0x8000000080000000};
constexpr Lanes kF16{0x7c007c007c007c00, 0x0400040004000400, 0x8000800080008000};
constexpr Lanes kBf16{0x7f807f807f807f80, 0x0080008000800080, 0x8000800080008000};

uint64_t load(const std::byte* p, size_t bytes) noexcept {
    uint64_t word = 0;
    std::memcpy(&word, p, bytes);
    return word;
}

bool any_bad(const std::byte* p, size_t bytes, Lanes lanes) noexcept {
    // Sixteen bytes, which every 64-bit CPU has; wider ones are no faster than memory either.
    using Words [[gnu::vector_size(16)]] = uint64_t;
    constexpr size_t kBlock = 4096;  // then it is worth looking whether there is something
    while (bytes >= kBlock) {
        Words bad{};
        for (size_t i = 0; i < kBlock; i += sizeof(Words)) {
            Words words;
            std::memcpy(&words, p + i, sizeof(words));
            bad |= (words & lanes.exponent) + lanes.one;
        }
        if (((bad[0] | bad[1]) & lanes.sign) != 0) return true;
        p += kBlock;
        bytes -= kBlock;
    }
    constexpr size_t kWord = sizeof(uint64_t);
    uint64_t bad = 0;
    for (; bytes >= kWord; bytes -= kWord, p += kWord) bad |= lanes.bad(load(p, kWord));
    return (bad | lanes.bad(load(p, bytes))) != 0;
}

/// Where a block keeps its f16 scales (and minima).
struct Scales {
    int first = -1;  ///< byte in the block; -1: it has none
    int second = -1;
};

Scales scales_of(DType dtype) noexcept {
    switch (dtype) {
        case DType::q8_0:
        case DType::q4_0:
        case DType::q5_0:
        case DType::iq4_nl:
        case DType::iq4_xs:
            return {0};
        case DType::q4_1:
        case DType::q5_1:
        case DType::q4_k:
        case DType::q5_k:
            return {0, 2};
        case DType::q2_k:
            return {80, 82};
        case DType::q3_k:
            return {108};
        case DType::q6_k:
            return {208};
        default:
            return {};
    }
}

bool any_bad_scale(const std::byte* p, int64_t bytes, int64_t block_bytes, int place) noexcept {
    uint64_t bad = 0;
    for (int64_t i = place; i < bytes; i += block_bytes) bad |= kF16.bad(load(p + i, 2));
    return bad != 0;
}

/// E8M0 has one NaN (OCP Microscaling Formats 1.0).
bool any_e8m0_nan(const std::byte* p, int64_t bytes, int64_t block_bytes) noexcept {
    bool bad = false;
    for (int64_t i = 0; i < bytes; i += block_bytes) bad |= p[i] == std::byte{255};
    return bad;
}

}  // namespace

bool has_non_finite(const TensorView& tensor) noexcept {
    const int64_t bytes = tensor.bytes();
    if (bytes == 0) return false;
    switch (tensor.dtype) {
        case DType::f32:
            return any_bad(tensor.data, static_cast<size_t>(bytes), kF32);
        case DType::f16:
            return any_bad(tensor.data, static_cast<size_t>(bytes), kF16);
        case DType::bf16:
            return any_bad(tensor.data, static_cast<size_t>(bytes), kBf16);
        case DType::i32:
            return false;
        default:
            break;
    }
    const int64_t block = dtype_info(tensor.dtype).block_bytes;
    if (tensor.dtype == DType::mxfp4) return any_e8m0_nan(tensor.data, bytes, block);
    const Scales scales = scales_of(tensor.dtype);
    return any_bad_scale(tensor.data, bytes, block, scales.first) ||
           (scales.second >= 0 && any_bad_scale(tensor.data, bytes, block, scales.second));
}

void refuse_unfit(std::string_view where, std::string_view tensor, DType stored,
                  std::span<const float> values) {
    if (!std::ranges::all_of(values, [](float x) { return std::isfinite(x); }))
        throw Error(where, fmt::format("tensor {} holds NaN or infinity, expected finite weights",
                                       quote(tensor)));
    float worst = 0;
    double share = 0;  // of what the format can hold
    for (const float x : values) {
        const double s = std::abs(double{x}) / largest_value(stored, x < 0);
        if (s > share) worst = x;
        share = std::max(share, s);
    }
    throw Error(where, fmt::format("tensor {} holds {}, which {} cannot: its largest value is {}, "
                                   "expected smaller weights or another format",
                                   quote(tensor), worst, dtype_info(stored).name,
                                   largest_value(stored, worst < 0)));
}

}  // namespace muster
