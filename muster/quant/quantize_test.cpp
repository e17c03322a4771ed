// SPDX-License-Identifier: Apache-2.0
#include "muster/quant/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "muster/core/error.h"
#include "muster/core/random.h"
#include "muster/quant/convert.h"

namespace muster {
namespace {

struct Expected {
    DType dtype;
    double error;  ///< greatest relative RMSE on Gaussian values
};

// A uniform quantiser of b bits over a block's range R has a mean squared error of (R / 2^b)^2 /
// 12; the largest of 32 Gaussian values is near 2.1 deviations on either side, of 16 near 1.8:
// relative errors near 4.2 / 2^b / sqrt(12), and fitted scales are better than that.
constexpr Expected kFormats[] = {
    {DType::q4_0, 0.085}, {DType::q4_1, 0.076},  {DType::q5_0, 0.042},  {DType::q5_1, 0.038},
    {DType::q2_k, 0.27},  {DType::q3_k, 0.15},   {DType::q4_k, 0.076},  {DType::q5_k, 0.038},
    {DType::q6_k, 0.018}, {DType::iq4_nl, 0.08}, {DType::iq4_xs, 0.08}, {DType::mxfp4, 0.13}};

std::vector<float> gaussian(int64_t n, double scale, uint64_t seed) {
    Random random(seed);
    std::vector<float> values(static_cast<size_t>(n));
    for (float& v : values) v = static_cast<float>(random.normal() * scale);
    return values;
}

std::vector<float> round_trip(DType dtype, const std::vector<float>& values, int64_t cols,
                              std::span<const float> importance = {}) {
    const auto n = static_cast<int64_t>(values.size());
    std::vector<std::byte> stored(static_cast<size_t>(dtype_bytes(dtype, n)));
    quantize_rows(dtype, values.data(), n / cols, cols, importance, stored.data());
    std::vector<float> decoded(values.size());
    decode_row(dtype, stored.data(), decoded.data(), n);
    return decoded;
}

double squared_error(const std::vector<float>& a, const std::vector<float>& b,
                     std::span<const float> weights = {}) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        const double d = double{a[i]} - b[i];
        sum += (weights.empty() ? 1.0 : weights[i % weights.size()]) * d * d;
    }
    return sum;
}

TEST(Quantize, ErrorsAreThoseOfTheFormats) {
    for (const double scale : {1e-3, 1.0, 300.0}) {
        const std::vector<float> values = gaussian(256 * 64, scale, 3);
        const std::vector<float> zeros(values.size());
        for (const auto [dtype, bound] : kFormats) {
            const auto decoded = round_trip(dtype, values, 512);
            const double relative =
                std::sqrt(squared_error(values, decoded) / squared_error(values, zeros));
            EXPECT_LT(relative, bound) << dtype_info(dtype).name << " " << scale;
        }
    }
}

TEST(Quantize, ImportanceMovesErrorToWhereItMattersLess) {
    const std::vector<float> values = gaussian(256 * 64, 1, 4);
    Random random(5);
    std::vector<float> importance(256);
    for (float& v : importance) v = static_cast<float>(std::exp(2 * random.normal()));
    for (const auto [dtype, bound] : kFormats) {
        const double blind = squared_error(values, round_trip(dtype, values, 256), importance);
        const double aware =
            squared_error(values, round_trip(dtype, values, 256, importance), importance);
        EXPECT_LT(aware, 0.97 * blind) << dtype_info(dtype).name;
    }
}

// Numbers that a format holds exactly come back.
TEST(Quantize, WhatIsOnTheGridStays) {
    std::vector<float> grid(256);
    for (size_t i = 0; i < grid.size(); ++i) grid[i] = 0.5f * static_cast<float>(int(i % 16) - 8);
    for (const DType dtype : {DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q4_k,
                              DType::q5_k, DType::q6_k}) {
        const auto decoded = round_trip(dtype, grid, 256);
        for (size_t i = 0; i < grid.size(); ++i)
            EXPECT_NEAR(decoded[i], grid[i], 0.03f) << dtype_info(dtype).name << " " << i;
    }
}

TEST(Quantize, EveryInstructionSetGivesTheSameBits) {
    std::vector<float> values = gaussian(1024, 1, 6);
    for (size_t i = 0; i < values.size(); i += 97) values[i] *= 40;
    std::vector<float> importance(512);
    for (size_t i = 0; i < importance.size(); ++i) importance[i] = static_cast<float>(i % 7);
    for (const auto [dtype, bound] : kFormats) {
        for (const std::span<const float> weights : {std::span<const float>(), {importance}}) {
            const auto encoded = [&](Isa isa) {
                std::vector<std::byte> out(static_cast<size_t>(dtype_bytes(dtype, 1024)));
                quantize_rows(dtype, values.data(), 2, 512, weights, out.data(), isa);
                return out;
            };
            const auto expected = encoded(available_isas().front());
            for (const Isa isa : available_isas())
                EXPECT_EQ(encoded(isa), expected) << dtype_info(dtype).name;
        }
    }
}

TEST(Quantize, LargestValueComesBackAndTwiceItDoesNot) {
    for (const DType dtype : all_dtypes()) {
        if (dtype == DType::i32) continue;
        for (const int sign : {1, -1}) {
            const double largest = sign * largest_value(dtype, sign < 0);
            std::vector<float> values(256);
            values[40] = static_cast<float>(largest);
            // q4_1's is a minimum of 65504 and 15 times as much again.
            EXPECT_NEAR(round_trip(dtype, values, 256)[40] / largest, 1, 0.07)
                << dtype_info(dtype).name << " " << sign;
            if (largest_value(dtype, false) > 1e38) continue;
            values[40] *= 2;
            const double share = round_trip(dtype, values, 256)[40] / largest;
            EXPECT_TRUE(std::isinf(share) || share < 1.01) << dtype_info(dtype).name << " " << sign;
        }
    }
}

TEST(Quantize, UnusualBlocks) {
    constexpr float kInf = std::numeric_limits<float>::infinity();
    for (const auto [dtype, bound] : kFormats) {
        std::vector<float> values(512);
        for (const float v : round_trip(dtype, values, 512)) EXPECT_EQ(v, 0);
        values[7] = 1e-42f;
        for (const float v : round_trip(dtype, values, 512)) EXPECT_EQ(v, 0);
        values.assign(512, 2.5f);
        for (const float v : round_trip(dtype, values, 512)) EXPECT_NEAR(v, 2.5f, 0.51f);
        // Beyond f16's scales: the greatest that the format can say, never infinity or NaN.
        values.assign(512, 3e38f);
        for (const float v : round_trip(dtype, values, 512)) EXPECT_GT(v, 65503.0f);
        if (dtype == DType::mxfp4) continue;
        for (const float special : {kInf, -kInf, std::nanf("")}) {
            values.assign(512, 1);
            values[3] = special;
            const auto decoded = round_trip(dtype, values, 512);
            EXPECT_TRUE(std::isnan(decoded[0])) << dtype_info(dtype).name;
            EXPECT_NEAR(decoded[511], 1, 0.25f) << dtype_info(dtype).name;
        }
    }
}

TEST(Quantize, RefusesWhatItCannotStore) {
    const std::vector<float> values(512), short_one(100, 1.0f);
    std::vector<std::byte> out(4096);
    std::vector<float> bad(256, 1.0f);
    const auto run = [&](int64_t cols, std::span<const float> importance) {
        quantize_rows(DType::q4_k, values.data(), 1, cols, importance, out.data());
    };
    EXPECT_THROW(run(96, {}), Error);
    EXPECT_THROW(run(256, short_one), Error);
    bad[9] = -1;
    EXPECT_THROW(run(256, bad), Error);
    bad[9] = std::nanf("");
    EXPECT_THROW(run(256, bad), Error);
}

}  // namespace
}  // namespace muster
