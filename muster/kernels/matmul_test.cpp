// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/matmul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "muster/core/random.h"
#include "muster/core/thread_team.h"
#include "muster/cpu/isa.h"
#include "muster/quant/convert.h"

namespace muster {
namespace {

struct IsaGuard {
    ~IsaGuard() { set_isa(available_isas().back()); }
};

struct Matrix {
    std::vector<float> values;
    int64_t rows, cols, stride;

    Matrix(int64_t r, int64_t c, int64_t extra = 0, float fill = 0)
        : values(static_cast<size_t>(r * (c + extra) + 1), fill),
          rows(r),
          cols(c),
          stride(c + extra) {}
    MatrixView<float> view() { return {values.data(), rows, cols, stride}; }
    MatrixView<const float> view() const { return {values.data(), rows, cols, stride}; }
    float at(int64_t i, int64_t j) const { return values[static_cast<size_t>(i * stride + j)]; }
};

/// Values that are exact in bf16, so that Compute::bf16 is held to the tolerance of f32.
Matrix random_matrix(Random& random, int64_t rows, int64_t cols, int64_t extra = 0) {
    Matrix m(rows, cols, extra);
    for (float& v : m.values) v = bf16_to_f32(f32_to_bf16(static_cast<float>(random.normal())));
    return m;
}

struct Weights {
    std::vector<std::byte> bytes;
    Matrix decoded;
    WeightMatrix matrix;

    Weights(Random& random, DType dtype, int64_t rows, int64_t cols) : decoded(rows, cols) {
        const Matrix values = random_matrix(random, rows, cols);
        bytes.resize(static_cast<size_t>(dtype_bytes(dtype, rows * cols)));
        encode_row(dtype, values.values.data(), bytes.data(), rows * cols);
        decode_row(dtype, bytes.data(), decoded.values.data(), rows * cols);
        matrix = {dtype, bytes.data(), rows, cols};
    }
};

/// |result - exact| of a sum of n products of f32 values is at most n u sum |a b| (1 + O(n u)), u =
/// 2^-24, whatever the order, plus two roundings for adding it to what was there. f16 and q8_0
/// weights are not exact in bf16: rounding them costs 2^-8 sum |a b|.
double tolerance(Compute compute, DType dtype, int64_t n, double magnitude, double initial) {
    const bool inexact = dtype == DType::f16 || dtype == DType::q8_0;
    const double relative = 1.1 * static_cast<double>(n) * 0x1p-24 +
                            (compute == Compute::bf16 && inexact ? 0x1p-8 : 0.0);
    return relative * magnitude + 2 * 0x1p-24 * (magnitude + std::fabs(initial)) + 1e-37;
}

/// C (=|+=) sum over k of a(i, k) b(k, j), c against doubles.
template <typename A, typename B>
void expect_product(const Matrix& c, int64_t n, Compute compute, DType dtype, double initial, A a,
                    B b, const std::string& what) {
    for (int64_t i = 0; i < c.rows; ++i) {
        for (int64_t j = 0; j < c.cols; ++j) {
            double sum = 0, magnitude = 0;
            for (int64_t k = 0; k < n; ++k) {
                const double product = static_cast<double>(a(i, k)) * b(k, j);
                sum += product;
                magnitude += std::fabs(product);
            }
            ASSERT_NEAR(c.at(i, j), initial + sum, tolerance(compute, dtype, n, magnitude, initial))
                << what << " at " << i << ", " << j;
        }
    }
}

struct Shape {
    int64_t rows, n, k;
};

// Around the tiles (14 x 32, 6 x 16, 4 x 8), around the vectors, and past a packing chunk of 256.
const Shape kShapes[] = {{1, 1, 1},    {2, 33, 7},   {3, 31, 64},  {5, 64, 65}, {13, 16, 33},
                         {14, 32, 32}, {15, 40, 31}, {29, 70, 96}, {43, 9, 17}, {17, 35, 290}};

std::string describe(Isa isa, DType dtype, Compute compute, const Shape& s) {
    return std::string(isa_name(isa)) + " " + std::string(dtype_info(dtype).name) +
           (compute == Compute::bf16 ? " in bf16 " : " in f32 ") + std::to_string(s.rows) + "x" +
           std::to_string(s.n) + "x" + std::to_string(s.k);
}

template <typename Body>
void for_all(std::initializer_list<DType> dtypes, Body body) {
    IsaGuard guard;
    for (Isa isa : available_isas()) {
        set_isa(isa);
        for (DType dtype : dtypes) {
            for (Compute compute : {Compute::f32, Compute::bf16}) {
                for (const Shape& s : kShapes) {
                    for (bool accumulate : {false, true}) {
                        body(dtype, compute, s, accumulate, describe(isa, dtype, compute, s));
                        if (::testing::Test::HasFatalFailure()) return;
                    }
                }
            }
        }
    }
}

TEST(Matmul, ProductMatchesDoubles) {
    for_all({DType::f32, DType::f16, DType::bf16, DType::q8_0},
            [](DType dtype, Compute compute, Shape s, bool accumulate, const std::string& what) {
                Random random(11);
                if (s.k % dtype_info(dtype).block_elements != 0) s.k = (s.k + 31) / 32 * 32;
                const Matrix x = random_matrix(random, s.rows, s.k, 3);
                const Weights w(random, dtype, s.n, s.k);
                SerialExecutor executor;
                Matrix y(s.rows, s.n, 5, accumulate ? 1.5f : NAN);
                matmul(x.view(), w.matrix, y.view(), executor, compute, accumulate);
                expect_product(
                    y, s.k, compute, dtype, accumulate ? 1.5 : 0,
                    [&](int64_t i, int64_t k) { return x.at(i, k); },
                    [&](int64_t k, int64_t j) { return w.decoded.at(j, k); }, what);
            });
}

TEST(Matmul, InputGradientMatchesDoubles) {
    for_all({DType::f32, DType::bf16}, [](DType dtype, Compute compute, Shape s, bool accumulate,
                                          const std::string& what) {
        Random random(12);
        const Matrix dy = random_matrix(random, s.rows, s.n, 3);
        const Weights w(random, dtype, s.n, s.k);
        SerialExecutor executor;
        Matrix dx(s.rows, s.k, 5, accumulate ? 1.5f : NAN);
        matmul_input_gradient(dy.view(), w.matrix, dx.view(), executor, compute, accumulate);
        expect_product(
            dx, s.n, compute, dtype, accumulate ? 1.5 : 0,
            [&](int64_t i, int64_t k) { return dy.at(i, k); },
            [&](int64_t k, int64_t j) { return w.decoded.at(k, j); }, what);
    });
}

TEST(Matmul, WeightGradientMatchesDoubles) {
    for_all({DType::f32}, [](DType, Compute compute, Shape s, bool accumulate,
                             const std::string& what) {
        Random random(13);
        const Matrix dy = random_matrix(random, s.rows, s.n, 3);
        const Matrix x = random_matrix(random, s.rows, s.k, 2);
        SerialExecutor executor;
        Matrix dw(s.n, s.k, 5, accumulate ? 1.5f : NAN);
        matmul_weight_gradient(dy.view(), x.view(), dw.view(), executor, compute, accumulate);
        expect_product(
            dw, s.rows, compute, DType::f32, accumulate ? 1.5 : 0,
            [&](int64_t i, int64_t k) { return dy.at(k, i); },
            [&](int64_t k, int64_t j) { return x.at(k, j); }, what);
    });
}

// Sums over more rows than one step of the weight gradient takes.
TEST(Matmul, WeightGradientOfManyRows) {
    IsaGuard guard;
    Random random(16);
    const Matrix dy = random_matrix(random, 2100, 20), x = random_matrix(random, 2100, 40);
    for (Isa isa : available_isas()) {
        set_isa(isa);
        for (Compute compute : {Compute::f32, Compute::bf16}) {
            SerialExecutor executor;
            Matrix dw(20, 40, 0, NAN);
            matmul_weight_gradient(dy.view(), x.view(), dw.view(), executor, compute);
            expect_product(
                dw, 2100, compute, DType::f32, 0, [&](int64_t i, int64_t k) { return dy.at(k, i); },
                [&](int64_t k, int64_t j) { return x.at(k, j); }, std::string(isa_name(isa)));
        }
    }
}

// What a token gets must not depend on the other rows of a decode batch.
TEST(Matmul, StreamedRowsDoNotDependOnTheirNeighbours) {
    IsaGuard guard;
    for (Isa isa : available_isas()) {
        set_isa(isa);
        for (DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8_0}) {
            Random random(17);
            const int64_t n = 37, k = dtype == DType::q8_0 ? 96 : 101;
            const Weights w(random, dtype, n, k);
            const Matrix x = random_matrix(random, 8, k);
            SerialExecutor executor;
            Matrix all(8, n);
            matmul(x.view(), w.matrix, all.view(), executor);
            for (int64_t count = 1; count <= 7; ++count) {
                Matrix some(count, n);
                matmul(x.view().slice(0, count), w.matrix, some.view(), executor);
                for (int64_t i = 0; i < count; ++i) {
                    for (int64_t j = 0; j < n; ++j) EXPECT_EQ(some.at(i, j), all.at(i, j));
                }
            }
        }
    }
}

TEST(Matmul, ResultsDoNotDependOnTheNumberOfWorkers) {
    for_all({DType::f32, DType::q8_0},
            [](DType dtype, Compute compute, Shape s, bool, const std::string& what) {
                s.rows = s.rows * 13;  // more than one chunk of rows for some
                s.k = (s.k + 31) / 32 * 32;
                Random random(14);
                const Matrix x = random_matrix(random, s.rows, s.k);
                const Matrix dy = random_matrix(random, s.rows, s.n);
                const Weights w(random, dtype, s.n, s.k);
                std::vector<std::vector<float>> first;
                for (int workers : {1, 2, 3}) {
                    ThreadTeam team(workers);
                    Matrix y(s.rows, s.n), dx(s.rows, s.k), dw(s.n, s.k);
                    matmul(x.view(), w.matrix, y.view(), team, compute);
                    if (dtype == DType::f32) {
                        matmul_input_gradient(dy.view(), w.matrix, dx.view(), team, compute);
                        matmul_weight_gradient(dy.view(), x.view(), dw.view(), team, compute);
                    }
                    const std::vector<std::vector<float>> all{y.values, dx.values, dw.values};
                    if (first.empty()) first = all;
                    ASSERT_EQ(first, all) << what << " with " << workers;
                }
            });
}

// Ties go to the even neighbour, everything else to the nearest: 1 + 2^-8 is a tie, 1 + 3 * 2^-8
// one upwards. Many rows, or weights would be streamed without rounding.
TEST(Matmul, Bf16RoundsBothOperandsToNearestEven) {
    IsaGuard guard;
    const float inputs[] = {1 + 0x1p-8f, 1 + 3 * 0x1p-8f, 1 + 0x1.2p-8f, -1 - 0x1p-8f, 0.0f};
    const float rounded[] = {1, 1 + 0x1p-6f, 1 + 0x1p-7f, -1, 0};
    for (Isa isa : available_isas()) {
        set_isa(isa);
        for (size_t i = 0; i < 5; ++i) {
            Matrix x(40, 1, 0, inputs[i]), y(40, 1), ones(40, 1, 0, 1.0f);
            const float one = 1;
            const WeightMatrix w{DType::f32, reinterpret_cast<const std::byte*>(&inputs[i]), 1, 1};
            const WeightMatrix unit{DType::f32, reinterpret_cast<const std::byte*>(&one), 1, 1};
            SerialExecutor executor;
            matmul(x.view(), unit, y.view(), executor, Compute::bf16);
            EXPECT_EQ(y.at(39, 0), rounded[i]) << isa_name(isa);
            matmul(ones.view(), w, y.view(), executor, Compute::bf16);
            EXPECT_EQ(y.at(39, 0), rounded[i]) << isa_name(isa);
        }
    }
}

TEST(Matmul, EmptySides) {
    SerialExecutor executor;
    Random random(15);
    const Weights w(random, DType::f32, 4, 3);
    Matrix none(0, 3), y(0, 4), dw(4, 3, 0, 2.0f);
    matmul(none.view(), w.matrix, y.view(), executor);
    matmul_input_gradient(y.view(), w.matrix, none.view(), executor);
    matmul_weight_gradient(y.view(), none.view(), dw.view(), executor, Compute::f32, true);
    EXPECT_EQ(dw.at(3, 2), 2.0f);
    matmul_weight_gradient(y.view(), none.view(), dw.view(), executor);
    EXPECT_EQ(dw.at(3, 2), 0.0f);
}

}  // namespace
}  // namespace muster
