// SPDX-License-Identifier: Apache-2.0
// Random bytes for codes, and scales that give the values the wanted size. Layouts and values are
// those of ggml-common.h; see muster/quant/ for what they decode to.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "muster/core/error.h"
#include "muster/quant/convert.h"
#include "tools/make_checkpoint/formats.h"

namespace muster::checkpoints {
namespace {

void put_half(std::byte* at, double value) {
    const uint16_t bits = f32_to_f16(static_cast<float>(value));
    std::memcpy(at, &bits, sizeof(bits));
}

void fill_bytes(Random& random, std::span<std::byte> out) {
    size_t i = 0;
    for (; i + 8 <= out.size(); i += 8) {
        const uint64_t bits = random();
        std::memcpy(out.data() + i, &bits, 8);
    }
    const uint64_t bits = random();
    std::memcpy(out.data() + i, &bits, out.size() - i);
}

/// Root mean square of the whole numbers from low to high.
double spread(int low, int high) {
    double sum = 0;
    for (int i = low; i <= high; ++i) sum += static_cast<double>(i) * i;
    return std::sqrt(sum / (high - low + 1));
}

/// Q2_K: 16 bytes of scale and minimum (4 bits each), both s, so that value = d s (q - 1.5).
void q2_k(std::byte* block, double deviation) {
    for (int i = 0; i < 16; ++i) {
        const int s = 8 | (static_cast<int>(block[i]) & 7);
        block[i] = static_cast<std::byte>(s | s << 4);
    }
    const double d = deviation / (spread(8, 15) * 1.118);  // 1.118: rms of q - 1.5
    put_half(block + 80, d);
    put_half(block + 82, 1.5 * d);
}

/// Q4_K, Q5_K: eight scales and minima of six bits, both s = 32 to 63, so that
/// value = d s (q - mean).
void q45_k(std::byte* block, double deviation, double mean, double rms) {
    uint8_t packed[12] = {};
    for (int j = 0; j < 8; ++j) {
        const int s = 32 | (static_cast<int>(block[4 + j]) & 31);
        if (j < 4) {
            packed[j] |= static_cast<uint8_t>(s);
            packed[j + 4] |= static_cast<uint8_t>(s);
        } else {
            packed[j + 4] = static_cast<uint8_t>((s & 15) | (s & 15) << 4);
            packed[j - 4] |= static_cast<uint8_t>(s >> 4 << 6);
            packed[j] |= static_cast<uint8_t>(s >> 4 << 6);
        }
    }
    std::memcpy(block + 4, packed, sizeof(packed));
    const double d = deviation / (spread(32, 63) * rms);
    put_half(block, d);
    put_half(block + 2, mean * d);
}

/// Q6_K: 16 scales of eight bits, 32 to 95 with either sign.
void q6_k(std::byte* block, double deviation) {
    for (int i = 192; i < 208; ++i) {
        const int bits = static_cast<int>(block[i]);
        const int s = 32 + (bits & 63);
        block[i] = static_cast<std::byte>((bits & 64) != 0 ? -s : s);
    }
    put_half(block + 208, deviation / (spread(32, 95) * spread(-32, 31)));
}

/// The scale's exponent E8M0 of MXFP4 that comes nearest; 2.93: rms of E2M1's values.
void mxfp4(std::byte* block, double deviation) {
    block[0] = static_cast<std::byte>(
        std::clamp<long>(127 + std::lround(std::log2(deviation / 2.93)), 1, 254));
}

constexpr double kIq4Rms = 69.2;  // of IQ4's sixteen values

void set_scales(DType dtype, double deviation, std::byte* block) {
    switch (dtype) {
        case DType::q8_0:
            return put_half(block, deviation / spread(-128, 127));
        case DType::q4_0:
            return put_half(block, deviation / spread(-8, 7));
        case DType::q4_1:
            put_half(block, deviation / 4.61);  // rms of q - 7.5
            return put_half(block + 2, -7.5 * deviation / 4.61);
        case DType::q5_0:
            return put_half(block, deviation / spread(-16, 15));
        case DType::q5_1:
            put_half(block, deviation / 9.23);  // rms of q - 15.5
            return put_half(block + 2, -15.5 * deviation / 9.23);
        case DType::q2_k:
            return q2_k(block, deviation);
        case DType::q3_k:
            return put_half(block + 108, deviation / (spread(-32, 31) * spread(-4, 3)));
        case DType::q4_k:
            return q45_k(block, deviation, 7.5, 4.61);
        case DType::q5_k:
            return q45_k(block, deviation, 15.5, 9.23);
        case DType::q6_k:
            return q6_k(block, deviation);
        case DType::iq4_nl:
            return put_half(block, deviation / kIq4Rms);
        case DType::iq4_xs:
            return put_half(block, deviation / (spread(-32, 31) * kIq4Rms));
        case DType::mxfp4:
            return mxfp4(block, deviation);
        default:
            MUSTER_ASSERT(!"a block format");
    }
}

/// f16 and bf16: the top bits of a sum of uniform numbers.
void plain_halves(DType dtype, double deviation, Random& random, std::span<std::byte> out) {
    for (size_t i = 0; i + 1 < out.size(); i += 2) {
        const uint64_t bits = random();
        const auto sum =
            static_cast<double>((bits & 0xfffff) + (bits >> 20 & 0xfffff) + (bits >> 40 & 0xfffff));
        const auto value = static_cast<float>((sum / 0x1p20 - 1.5) * 2 * deviation);
        const uint16_t half = dtype == DType::f16 ? f32_to_f16(value) : f32_to_bf16(value);
        std::memcpy(out.data() + i, &half, sizeof(half));
    }
}

}  // namespace

void random_blocks(DType dtype, double deviation, Random& random, std::span<std::byte> out) {
    if (dtype == DType::f16 || dtype == DType::bf16)
        return plain_halves(dtype, deviation, random, out);
    const auto bytes = static_cast<size_t>(dtype_info(dtype).block_bytes);
    MUSTER_ASSERT(dtype != DType::f32 && dtype != DType::i32 && out.size() % bytes == 0);
    fill_bytes(random, out);
    for (size_t i = 0; i < out.size(); i += bytes) set_scales(dtype, deviation, out.data() + i);
}

}  // namespace muster::checkpoints
