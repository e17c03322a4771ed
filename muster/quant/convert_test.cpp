// SPDX-License-Identifier: Apache-2.0
#include "muster/quant/convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "muster/core/random.h"

namespace muster {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

uint32_t bits(float x) { return std::bit_cast<uint32_t>(x); }

// The value of a binary16 from its definition.
double half_value(uint16_t h) {
    const int exponent = (h >> 10) & 31, mantissa = h & 0x3ff;
    const double magnitude =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    return (h & 0x8000) != 0 ? -magnitude : magnitude;
}

TEST(Convert, F16DecodesToItsDefinition) {
    for (uint32_t h = 0; h < 0x10000; ++h) {
        const float v = f16_to_f32(static_cast<uint16_t>(h));
        if ((h & 0x7c00) != 0x7c00) {
            EXPECT_EQ(v, half_value(static_cast<uint16_t>(h)));
            EXPECT_EQ(std::signbit(v), (h & 0x8000) != 0);
        } else if ((h & 0x3ff) != 0) {
            EXPECT_TRUE(std::isnan(v));
        } else {
            EXPECT_EQ(v, (h & 0x8000) != 0 ? -kInf : kInf);
        }
    }
}

// Between each pair of neighbours: nearest, at the middle the even one.
TEST(Convert, F16EncodesToTheNearestEven) {
    for (uint16_t h = 0; h < 0x7c00; ++h) {
        const double low = half_value(h);
        // Past the largest number the next would be 2^16; from the middle on it is infinity.
        const double high = h == 0x7bff ? 65536.0 : half_value(static_cast<uint16_t>(h + 1));
        const auto middle = static_cast<float>((low + high) / 2);
        const auto up = static_cast<uint16_t>(h + 1);
        const uint16_t even = h % 2 == 0 ? h : up;
        for (uint16_t sign : {uint16_t{0}, uint16_t{0x8000}}) {
            const float s = sign != 0 ? -1.0f : 1.0f;
            EXPECT_EQ(f32_to_f16(s * static_cast<float>(low)), h | sign);
            EXPECT_EQ(f32_to_f16(s * middle), even | sign);
            EXPECT_EQ(f32_to_f16(s * std::nextafter(middle, 0.0f)), h | sign);
            EXPECT_EQ(f32_to_f16(s * std::nextafter(middle, kInf)), up | sign);
        }
    }
    EXPECT_EQ(f32_to_f16(kInf), 0x7c00);
    EXPECT_EQ(f32_to_f16(-1e30f), 0xfc00);
    EXPECT_EQ(f32_to_f16(1e-30f), 0);
    EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(kNan))));
    EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(std::bit_cast<float>(0x7f800001u)))));
}

TEST(Convert, Bf16RoundsToTheNearestEven) {
    for (uint32_t h = 0; h < 0x7f80; ++h) {
        const uint32_t low = h << 16;
        const uint32_t even = h % 2 == 0 ? h : h + 1;
        EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(low)), h);
        EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(low + 0x7fff)), h);
        EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(low + 0x8000)), even);
        EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(low + 0x8001)), h + 1);
        EXPECT_EQ(bits(bf16_to_f32(static_cast<uint16_t>(h))), low);
    }
    EXPECT_EQ(f32_to_bf16(-kInf), 0xff80);
    EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

TEST(Convert, Q8BlocksHoldScaleAndRoundedQuotients) {
    float values[32] = {};
    values[0] = -254;  // d = 2
    values[1] = 1;     // a tie, away from zero
    values[2] = -1;
    values[3] = 0.99f;
    values[31] = 253;
    std::byte block[34];
    encode_row(DType::q8_0, values, block, 32);
    const auto q = [&](int i) { return static_cast<int8_t>(block[2 + i]); };
    EXPECT_EQ(static_cast<int>(block[0]) | static_cast<int>(block[1]) << 8, f32_to_f16(2.0f));
    EXPECT_EQ(q(0), -127);
    EXPECT_EQ(q(1), 1);
    EXPECT_EQ(q(2), -1);
    EXPECT_EQ(q(3), 0);
    EXPECT_EQ(q(31), 127);
    float decoded[32];
    decode_row(DType::q8_0, block, decoded, 32);
    EXPECT_EQ(decoded[0], -254);
    EXPECT_EQ(decoded[31], 254);
}

// The quotient is off by half a step of d = max / 127, the stored d by 2^-11 of itself (normal f16)
// and the inverse and product by a few f32 roundings.
TEST(Convert, Q8IsWithinHalfAStep) {
    Random random(5);
    for (double scale : {1e-2, 1.0, 1e3}) {
        std::vector<float> values(32 * 50), decoded(values.size());
        for (float& v : values) v = static_cast<float>(random.normal() * scale);
        std::vector<std::byte> stored(34 * 50);
        encode_row(DType::q8_0, values.data(), stored.data(), 32 * 50);
        decode_row(DType::q8_0, stored.data(), decoded.data(), 32 * 50);
        for (size_t b = 0; b < values.size(); b += 32) {
            float largest = 0;
            for (size_t i = b; i < b + 32; ++i) largest = std::max(largest, std::fabs(values[i]));
            const double bound = largest * (0.5 / 127 + 0x1p-11 + 0x1p-20);
            for (size_t i = b; i < b + 32; ++i) EXPECT_NEAR(decoded[i], values[i], bound);
        }
    }
}

TEST(Convert, Q8OfUnusualBlocks) {
    for (Isa isa : available_isas()) {
        std::byte block[34];
        float decoded[32];
        const auto round_trip = [&](float special) {
            float values[32] = {};
            values[3] = 1;
            values[7] = special;
            encoder(DType::q8_0, isa)(values, block, 32);
            decoder(DType::q8_0, isa)(block, decoded, 32);
        };
        for (float special : {kNan, kInf, -kInf}) {
            round_trip(special);
            for (float v : decoded) EXPECT_TRUE(std::isnan(v));
        }
        const float zeros[32] = {};
        encoder(DType::q8_0, isa)(zeros, block, 32);
        decoder(DType::q8_0, isa)(block, decoded, 32);
        for (float v : decoded) EXPECT_EQ(v, 0);
        // A scale too small for its inverse.
        float tiny[32] = {};
        tiny[0] = 1e-39f;
        encoder(DType::q8_0, isa)(tiny, block, 32);
        decoder(DType::q8_0, isa)(block, decoded, 32);
        for (float v : decoded) EXPECT_EQ(v, 0);
    }
}

std::vector<float> awkward_values() {
    std::vector<float> values{0.0f, -0.0f, 1e-40f, -1e-44f, kInf, -kInf, 65504.0f, 65520.0f, 3e38f};
    Random random(6);
    while (values.size() < 32 * 9) {
        const auto random_bits = static_cast<uint32_t>(random());
        const float any = std::bit_cast<float>(random_bits);
        values.push_back(values.size() % 2 == 0 ? static_cast<float>(random.normal()) : any);
    }
    return values;
}

TEST(Convert, EveryInstructionSetGivesTheSameBits) {
    const std::vector<float> values = awkward_values();
    for (DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8_0}) {
        for (int64_t n : {1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 96, 288}) {
            if (n % dtype_info(dtype).block_elements != 0) continue;
            const auto size = static_cast<size_t>(dtype_bytes(dtype, n));
            // Beyond the end lies a guard that must survive.
            std::vector<std::byte> expected(size + 64, std::byte{0x5a});
            encoder(dtype, Isa::generic)(values.data(), expected.data(), n);
            std::vector<float> decoded(static_cast<size_t>(n) + 16, 7.0f);
            decoder(dtype, Isa::generic)(expected.data(), decoded.data(), n);
            for (Isa isa : available_isas()) {
                std::vector<std::byte> stored(size + 64, std::byte{0x5a});
                encoder(dtype, isa)(values.data(), stored.data(), n);
                EXPECT_EQ(stored, expected) << isa_name(isa) << " " << dtype_info(dtype).name;
                std::vector<float> out(decoded.size(), 7.0f);
                decoder(dtype, isa)(stored.data(), out.data(), n);
                for (size_t i = 0; i < out.size(); ++i) {
                    EXPECT_EQ(bits(out[i]), bits(decoded[i]))
                        << isa_name(isa) << " " << dtype_info(dtype).name << " at " << i;
                }
            }
        }
    }
}

TEST(Convert, EveryF16DecodesAlike) {
    std::vector<std::byte> all(2 * 0x10000);
    for (size_t h = 0; h < 0x10000; ++h) {
        all[2 * h] = static_cast<std::byte>(h & 0xff);
        all[2 * h + 1] = static_cast<std::byte>(h >> 8);
    }
    std::vector<float> expected(0x10000), values(0x10000);
    decoder(DType::f16, Isa::generic)(all.data(), expected.data(), 0x10000);
    for (Isa isa : available_isas()) {
        decoder(DType::f16, isa)(all.data(), values.data(), 0x10000);
        for (size_t h = 0; h < 0x10000; ++h) {
            ASSERT_EQ(bits(values[h]), bits(expected[h])) << isa_name(isa) << " " << h;
        }
    }
}

}  // namespace
}  // namespace muster
