// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/head_matmul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "muster/core/random.h"
#include "muster/core/thread_team.h"
#include "muster/cpu/isa.h"
#include "muster/quant/convert.h"
#include "muster/quant/panels.h"

namespace muster {
namespace {

constexpr int64_t kHeads = 3;
constexpr float kUntouched = 12345.0f;

/// A matrix a head, in a format, by rows and, where they fill panels, in panels too.
struct HeadWeights {
    HeadWeights(Random& random, DType dtype, int64_t rows, int64_t cols)
        : decoded(static_cast<size_t>(kHeads * rows * cols)) {
        WeightMatrix one{.dtype = dtype, .data = nullptr, .rows = rows, .cols = cols};
        std::vector<float> values(decoded.size());
        for (float& v : values) v = static_cast<float>(random.normal());
        stored_.resize(static_cast<size_t>(kHeads * one.bytes()));
        packed_.resize(stored_.size());
        for (int64_t h = 0; h < kHeads; ++h) {
            one.data = stored_.data() + h * one.bytes();
            encode_row(dtype, &values[h * rows * cols], stored_.data() + h * one.bytes(),
                       rows * cols);
            decode_row(dtype, one.data, &decoded[h * rows * cols], rows * cols);
            by_rows.push_back(one);
            if (!panels_fit(one)) continue;
            std::byte* packed = packed_.data() + h * one.bytes();
            pack_panels(one, 0, rows / kPanelRows, packed);
            panels.push_back({dtype, packed, rows, cols, WeightLayout::panels});
        }
    }
    std::vector<WeightMatrix> by_rows, panels;
    std::vector<float> decoded;  ///< [heads, rows, cols]

  private:
    std::vector<std::byte> stored_, packed_;
};

struct Case {
    DType dtype;
    Compute compute;
    int64_t tokens, rows, cols;
};

/// As large a share of sum |a b| as the two roundings to `compute`'s operands and a sum of `cols`
/// terms in f32 may cost. Integers: activations are rounded by half of 1 / 127 of the largest of
/// their block, which 4 deviations bound, where a mean |a| is 0.8 deviations.
double share(const Case& c) {
    const double sum = static_cast<double>(c.cols) * 0x1p-24;
    switch (effective_compute(c.compute, c.dtype)) {
        case Compute::bf16:
            return sum + 0x1p-8;
        case Compute::int8:
            return sum + 0.5 / 127 * 4 / 0.8;
        default:
            return sum;
    }
}

class HeadMatmul : public ::testing::TestWithParam<Isa> {
  protected:
    void SetUp() override { set_isa(GetParam()); }
    void TearDown() override { set_isa(available_isas().back()); }

    /// Heads lie in the first `cols` of `x_step` values, and results in the first `rows` of
    /// `y_step`; what lies between them must be neither read nor written.
    static void compare(const Case& c, std::span<const WeightMatrix> w,
                        const std::vector<float>& decoded) {
        SCOPED_TRACE(std::string(dtype_info(c.dtype).name) + " compute " +
                     std::to_string(static_cast<int>(c.compute)) + " tokens " +
                     std::to_string(c.tokens) + (w[0].layout == WeightLayout::panels ? " p" : ""));
        const int64_t x_step = c.cols + 5, y_step = c.rows + 7;
        Random random(99);
        std::vector<float> x(static_cast<size_t>(c.tokens * kHeads * x_step), NAN);
        for (int64_t i = 0; i < c.tokens * kHeads; ++i)
            for (int64_t k = 0; k < c.cols; ++k)
                x[i * x_step + k] = static_cast<float>(random.normal());
        std::vector<float> y(static_cast<size_t>(c.tokens * kHeads * y_step), kUntouched);
        std::vector<float> alone = y;
        ThreadTeam team(3), one(1);
        head_matmul({x.data(), c.tokens, x_step}, w, {y.data(), c.tokens, y_step}, team, c.compute);
        head_matmul({x.data(), c.tokens, x_step}, w, {alone.data(), c.tokens, y_step}, one,
                    c.compute);
        EXPECT_EQ(y, alone);
        for (int64_t i = 0; i < c.tokens * kHeads; ++i) {
            const float* a = &x[i * x_step];
            for (int64_t r = 0; r < c.rows; ++r) {
                const float* b = &decoded[(i % kHeads * c.rows + r) * c.cols];
                double sum = 0, size = 0;
                for (int64_t k = 0; k < c.cols; ++k) {
                    sum += double{a[k]} * b[k];
                    size += std::abs(double{a[k]} * b[k]);
                }
                ASSERT_NEAR(y[i * y_step + r], sum, share(c) * size) << "row " << i << ", " << r;
            }
            for (int64_t r = c.rows; r < y_step; ++r) ASSERT_EQ(y[i * y_step + r], kUntouched);
        }
    }
};

TEST_P(HeadMatmul, MatchesDoublesHeadByHead) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::q8_0, DType::q4_0})
        for (const Compute compute : {Compute::f32, Compute::bf16, Compute::int8})
            for (const int64_t tokens : {1, 8, 9, 70})
                for (const int64_t rows : {16, 48, 50}) {
                    const Case c{dtype, compute, tokens, rows, 96};
                    Random random(static_cast<uint64_t>(rows));
                    const HeadWeights w(random, dtype, c.rows, c.cols);
                    compare(c, w.by_rows, w.decoded);
                    if (effective_compute(compute, dtype) == Compute::int8 && !w.panels.empty())
                        compare(c, w.panels, w.decoded);
                }
}

TEST_P(HeadMatmul, MoreRowsThanOneTaskStreams) {
    for (const DType dtype : {DType::f32, DType::q8_0}) {
        const Case c{dtype, Compute::f32, 3, 1100, 64};
        Random random(4);
        const HeadWeights w(random, dtype, c.rows, c.cols);
        compare(c, w.by_rows, w.decoded);
    }
}

TEST_P(HeadMatmul, NoRows) {
    ThreadTeam team(2);
    Random random(1);
    for (const DType dtype : {DType::f32, DType::q8_0}) {
        const HeadWeights w(random, dtype, 16, 32);
        head_matmul({nullptr, 0, 32}, w.by_rows, {nullptr, 0, 16}, team, Compute::int8);
    }
}

INSTANTIATE_TEST_SUITE_P(Isas, HeadMatmul, ::testing::ValuesIn(available_isas()),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

}  // namespace
}  // namespace muster
