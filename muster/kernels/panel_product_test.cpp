// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/panel_product.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "muster/core/random.h"
#include "muster/cpu/isa.h"
#include "muster/quant/convert.h"

namespace muster {
namespace {

struct IsaGuard {
    ~IsaGuard() { set_isa(available_isas().back()); }
};

std::vector<float> random_values(Random& random, int64_t n) {
    std::vector<float> values(static_cast<size_t>(n));
    for (float& v : values) v = static_cast<float>(random.normal());
    return values;
}

/// Where a format keeps f16 scales in a block; MXFP4's scale is a byte.
std::vector<int> half_offsets(DType dtype) {
    switch (dtype) {
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
            return {0};
    }
}

/// Random bytes with scales of ordinary size: every bit pattern of the packed values occurs.
std::vector<std::byte> random_blocks(Random& random, DType dtype, int64_t values) {
    std::vector<std::byte> bytes(static_cast<size_t>(dtype_bytes(dtype, values)));
    for (std::byte& b : bytes) b = static_cast<std::byte>(random.below(256));
    for (size_t at = 0; at < bytes.size(); at += dtype_info(dtype).block_bytes) {
        for (const int offset : half_offsets(dtype)) {
            if (dtype == DType::mxfp4) {
                bytes[at] = static_cast<std::byte>(120 + random.below(16));
            } else {
                const uint16_t half = f32_to_f16(static_cast<float>(random.normal()));
                std::memcpy(bytes.data() + at + offset, &half, 2);
            }
        }
    }
    return bytes;
}

struct Weights {
    WeightMatrix rows, panels;
    std::vector<float> decoded;  ///< [rows, cols]

    Weights(Random& random, DType dtype, int64_t n, int64_t cols)
        : Weights(random_blocks(random, dtype, n * cols), dtype, n, cols) {}
    Weights(std::vector<std::byte> bytes, DType dtype, int64_t n, int64_t cols)
        : rows{dtype, nullptr, n, cols}, bytes_(std::move(bytes)) {
        rows.data = panels.data = bytes_.data();
        decoded.resize(static_cast<size_t>(n * cols));
        decode_row(dtype, bytes_.data(), decoded.data(), n * cols);
        if (panels_fit(rows)) {
            packed_.resize(bytes_.size());
            pack_panels(rows, 0, n / kPanelRows, packed_.data());
            panels = {dtype, packed_.data(), n, cols, WeightLayout::panels};
        }
    }

  private:
    std::vector<std::byte> bytes_, packed_;
};

float value(const QuantizedChunk* row, int64_t k) {
    const QuantizedChunk& c = row[k / kPanelChunk];
    return c.scale[k % kPanelChunk / 32] * static_cast<float>(c.q[k % kPanelChunk]);
}

/// Integer sums are exact; each of the 16-value scales brings a few f32 roundings of its own
/// product (scale, minimum, activation scale: 2^-24 each), and adding up at most cols / 16 of them
/// as many again.
double tolerance(int64_t cols, double magnitude) {
    return (8 + static_cast<double>(cols) / 16) * 0x1p-24 * magnitude;
}

template <typename Body>
void for_all(Body body) {
    IsaGuard guard;
    for (const Isa isa : available_isas()) {
        set_isa(isa);
        for (const DType dtype : all_dtypes()) {
            if (panel_planes(dtype).empty()) continue;
            SCOPED_TRACE(std::string(isa_name(isa)) + " " + std::string(dtype_info(dtype).name));
            body(dtype);
            if (::testing::Test::HasFatalFailure()) return;
        }
    }
}

void expect_product(const Weights& w, const WeightMatrix& matrix, const QuantizedRows& x, int64_t m,
                    int64_t first, int64_t last) {
    std::vector<const QuantizedChunk*> rows;
    for (int64_t i = 0; i < m; ++i) rows.push_back(x.row(i));
    const int64_t ldo = last - first + 3;
    std::vector<float> out(static_cast<size_t>(m * ldo), NAN);
    panel_product(matrix.dtype,
                  current_isa())({matrix, first, last, rows.data(), m, out.data(), ldo});
    for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = first; j < last; ++j) {
            double sum = 0, magnitude = 0;
            for (int64_t k = 0; k < matrix.cols; ++k) {
                const double product =
                    static_cast<double>(w.decoded[j * matrix.cols + k]) * value(x.row(i), k);
                sum += product;
                magnitude += std::fabs(product);
            }
            // A minimum and a scale may cancel in a value of the weight: count both.
            ASSERT_NEAR(out[i * ldo + j - first], sum, 16 * tolerance(matrix.cols, magnitude))
                << "row " << i << ", column " << j << " of " << m << " rows";
        }
        EXPECT_TRUE(std::isnan(out[i * ldo + last - first])) << "written past the end";
    }
}

TEST(PanelProduct, MatchesDoublesInBothLayouts) {
    for_all([](DType dtype) {
        Random random(21);
        for (const int64_t cols : {32, 288, 256, 768}) {
            if (cols % dtype_info(dtype).block_elements != 0) continue;
            const Weights w(random, dtype, 48, cols);
            for (const int64_t m : {1, 2, 3, 4, 5, 13, 29}) {
                const std::vector<float> values = random_values(random, m * cols);
                QuantizedRows x;
                SerialExecutor executor;
                x.assign({values.data(), m, cols}, activation_scale(dtype), executor);
                expect_product(w, w.rows, x, m, 16, 48);
                expect_product(w, w.panels, x, m, 16, 48);
            }
        }
    });
}

TEST(PanelProduct, RowsThatFillNoPanel) {
    for_all([](DType dtype) {
        Random random(22);
        const Weights w(random, dtype, 21, 256);
        const std::vector<float> values = random_values(random, 6 * 256);
        QuantizedRows x;
        SerialExecutor executor;
        x.assign({values.data(), 6, 256}, activation_scale(dtype), executor);
        expect_product(w, w.rows, x, 1, 0, 21);
        expect_product(w, w.rows, x, 6, 16, 21);
    });
}

TEST(PanelProduct, TakesEveryScaleOfMxfp4) {
    IsaGuard guard;
    Random random(26);
    const int64_t n = 16, cols = 256, m = 6;
    for (const int e : {0, 1, 2, 3, 127, 252, 253, 254, 255}) {
        SCOPED_TRACE(e);
        std::vector<std::byte> bytes = random_blocks(random, DType::mxfp4, n * cols);
        for (size_t i = 0; i < bytes.size(); ++i)  // values of 0, 1 and -1, which stay finite
            bytes[i] = i % 17 == 0 ? static_cast<std::byte>(e) : bytes[i] & std::byte{0x99};
        const Weights w(std::move(bytes), DType::mxfp4, n, cols);
        std::vector<float> values = random_values(random, m * cols);
        for (float& v : values) v = std::ldexp(v, std::clamp(127 - e, -100, 100));
        QuantizedRows x;
        SerialExecutor executor;
        x.assign({values.data(), m, cols}, activation_scale(DType::mxfp4), executor);
        for (const Isa isa : available_isas()) {
            set_isa(isa);
            SCOPED_TRACE(isa_name(isa));
            for (const int64_t rows : {int64_t{1}, m}) {
                expect_product(w, w.rows, x, rows, 0, n);
                expect_product(w, w.panels, x, rows, 0, n);
            }
        }
    }
}

// What a token gets depends neither on the other tokens of the batch nor on where the weights lie.
TEST(PanelProduct, BitsDoNotDependOnTheNeighbours) {
    for_all([](DType dtype) {
        Random random(23);
        const int64_t cols = 512, m = 200;
        const Weights w(random, dtype, 32, cols);
        const std::vector<float> values = random_values(random, m * cols);
        QuantizedRows x;
        SerialExecutor executor;
        x.assign({values.data(), m, cols}, activation_scale(dtype), executor);
        std::vector<const QuantizedChunk*> rows;
        for (int64_t i = 0; i < m; ++i) rows.push_back(x.row(i));
        std::vector<float> all(m * 32), one(32);
        const PanelProductFn run = panel_product(dtype, current_isa());
        run({w.panels, 0, 32, rows.data(), m, all.data(), 32});
        for (const int64_t i : {int64_t{0}, int64_t{7}, m - 1}) {
            run({w.rows, 0, 32, rows.data() + i, 1, one.data(), 32});
            for (int64_t j = 0; j < 32; ++j) EXPECT_EQ(one[j], all[i * 32 + j]);
        }
    });
}

TEST(QuantizedRows, EveryInstructionSetGivesTheSameBits) {
    IsaGuard guard;
    Random random(24);
    for (const int64_t n : {1, 31, 32, 100, 256, 300, 1024}) {
        std::vector<float> x = random_values(random, n);
        if (n == 300) x[270] = 1e-42f;  // a scale without an inverse, once the others are gone
        if (n == 1024) x[40] = INFINITY, x[600] = NAN;
        for (const ActivationScale scale : {ActivationScale::per_32, ActivationScale::per_256}) {
            const int64_t chunks = (n + kPanelChunk - 1) / kPanelChunk;
            std::vector<QuantizedChunk> expected(chunks), got(chunks);
            for (const Isa isa : available_isas()) {
                set_isa(isa);
                std::memset(static_cast<void*>(got.data()), 0x55, chunks * sizeof(QuantizedChunk));
                quantize_row(x.data(), n, scale, got.data());
                if (isa == Isa::generic) expected = got;
                for (int64_t c = 0; c < chunks; ++c) {
                    const QuantizedChunk &e = expected[c], &g = got[c];
                    EXPECT_EQ(std::memcmp(e.q, g.q, sizeof(e.q)), 0) << isa_name(isa);
                    EXPECT_EQ(std::memcmp(e.minus_sum16, g.minus_sum16, 96), 0) << isa_name(isa);
                    EXPECT_EQ(std::memcmp(e.minus_pairs16, g.minus_pairs16, 48), 0);
                    for (int i = 0; i < 8; ++i) {
                        if (std::isnan(e.scale[i])) {
                            EXPECT_TRUE(std::isnan(g.scale[i])) << isa_name(isa);
                        } else {
                            EXPECT_EQ(e.scale[i], g.scale[i]) << isa_name(isa);
                            EXPECT_EQ(e.sum32[i], g.sum32[i]) << isa_name(isa);
                        }
                    }
                }
            }
        }
    }
}

TEST(QuantizedRows, RoundsWithinHalfAStep) {
    IsaGuard guard;
    Random random(25);
    const std::vector<float> x = random_values(random, 700);
    for (const ActivationScale scale : {ActivationScale::per_32, ActivationScale::per_256}) {
        std::vector<QuantizedChunk> chunks(3);
        quantize_row(x.data(), 700, scale, chunks.data());
        for (int64_t k = 0; k < 700; ++k) {
            const float d = chunks[k / 256].scale[k % 256 / 32];
            EXPECT_NEAR(value(chunks.data(), k), x[k], 0.5001f * d);
        }
        for (int64_t k = 700; k < 768; ++k) EXPECT_EQ(chunks[2].q[k - 512], 0);
    }
}

}  // namespace
}  // namespace muster
