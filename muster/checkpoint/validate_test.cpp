// SPDX-License-Identifier: Apache-2.0
#include "muster/checkpoint/validate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "muster/quant/convert.h"

namespace muster {
namespace {

/// Every place of a tensor of `count` values is tried with `bits` and must be found.
template <typename T>
void expect_found(DType dtype, T bits, bool found, T filler) {
    for (const int64_t count : {1, 2, 3, 7, 8, 9, 1023, 1024, 3000}) {
        // One byte in front: the values lie misaligned.
        std::vector<std::byte> bytes(static_cast<size_t>(count) * sizeof(T) + 1);
        std::byte* data = bytes.data() + 1;
        for (int64_t i = 0; i < count; ++i) {
            std::memcpy(data + static_cast<size_t>(i) * sizeof(T), &filler, sizeof(T));
        }
        const TensorView view{dtype, {count}, data};
        EXPECT_FALSE(has_non_finite(view));
        for (int64_t i = 0; i<count; i += count> 10 ? 97 : 1) {
            std::byte* place = data + static_cast<size_t>(i) * sizeof(T);
            std::memcpy(place, &bits, sizeof(T));
            EXPECT_EQ(has_non_finite(view), found) << count << " " << i << " " << bits;
            std::memcpy(place, &filler, sizeof(T));
        }
    }
}

TEST(Validate, FindsNonFiniteF32) {
    const uint32_t filler = 0xff7fffff;  // the lowest finite number
    for (const uint32_t bad : {0x7f800000u, 0xff800000u, 0x7fc00000u, 0x7f800001u, 0xffffffffu}) {
        expect_found(DType::f32, bad, true, filler);
    }
    for (const uint32_t good : {0u, 0x80000000u, 0x7f7fffffu, 1u, 0x007fffffu, 0x3f800000u}) {
        expect_found(DType::f32, good, false, filler);
    }
}

TEST(Validate, SixteenBitFormatsExhaustively) {
    for (uint32_t bits = 0; bits < 65536; ++bits) {
        const auto value = static_cast<uint16_t>(bits);
        std::byte bytes[2 * 5] = {};
        std::memcpy(bytes + 4, &value, 2);
        const bool f16 = (bits & 0x7c00) == 0x7c00;
        const bool bf16 = (bits & 0x7f80) == 0x7f80;
        ASSERT_EQ(has_non_finite({DType::f16, {5}, bytes}), f16) << bits;
        ASSERT_EQ(has_non_finite({DType::bf16, {5}, bytes}), bf16) << bits;
    }
    expect_found<uint16_t>(DType::f16, 0x7e00, true, 0xfbff);
    expect_found<uint16_t>(DType::bf16, 0x7f80, true, 0xff7f);
}

TEST(Validate, Q8ScalesAndIntegers) {
    std::vector<std::byte> bytes(34 * 6, std::byte{0xff});  // quants of all ones bits are numbers
    for (size_t block = 0; block < 6; ++block) std::memset(bytes.data() + 34 * block, 0, 2);
    const TensorView view{DType::q8_0, {3, 64}, bytes.data()};
    EXPECT_FALSE(has_non_finite(view));
    bytes[34 * 5 + 1] = std::byte{0x7c};
    EXPECT_TRUE(has_non_finite(view));
    EXPECT_FALSE(has_non_finite({DType::i32, {51}, bytes.data()}));
    EXPECT_FALSE(has_non_finite({DType::f32, {0, 3}, nullptr}));
}

// Whatever the encoder makes of finite values is finite; NaN or infinity in any block is found.
TEST(Validate, EveryBlockFormat) {
    for (const DType dtype : all_dtypes()) {
        if (dtype_info(dtype).block_elements == 1) continue;
        std::vector<float> values(1024);
        for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 37) - 9;
        std::vector<std::byte> stored(static_cast<size_t>(dtype_bytes(dtype, 1024)));
        const TensorView view{dtype, {4, 256}, stored.data()};
        encode_row(dtype, values.data(), stored.data(), 1024);
        EXPECT_FALSE(has_non_finite(view)) << dtype_info(dtype).name;
        for (const size_t place : {size_t{0}, size_t{700}, values.size() - 1}) {
            for (const float special : {INFINITY, -INFINITY, std::nanf("")}) {
                std::vector<float> bad = values;
                bad[place] = special;
                encode_row(dtype, bad.data(), stored.data(), 1024);
                EXPECT_TRUE(has_non_finite(view)) << dtype_info(dtype).name << " " << place;
            }
        }
    }
}

}  // namespace
}  // namespace muster
