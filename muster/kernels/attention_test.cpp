// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "muster/core/random.h"
#include "muster/core/thread_team.h"
#include "muster/cpu/isa.h"
#include "muster/quant/convert.h"

namespace muster {
namespace {

class Attention : public ::testing::TestWithParam<Isa> {
  protected:
    void SetUp() override { set_isa(GetParam()); }
    void TearDown() override { set_isa(available_isas().back()); }
};

struct Case {
    int heads, kv_heads, head_dim;
    int64_t rows, position;
    double size = 1;  ///< of queries and keys
    DType dtype = DType::f32;
    int value_dim = 0;
    int64_t window = 0;
    bool sinks = false;
    float softcap = 0;
    bool aliased = false;  ///< values are the first numbers of the keys
};

/// Rows of `width` numbers in their stored format, and what they decode to.
struct Stored {
    Stored(DType dtype, const std::vector<float>& rows, int64_t width)
        : dtype(dtype), row_bytes(dtype_bytes(dtype, width)), decoded(rows.size()) {
        bytes.resize(rows.size() / width * row_bytes);
        for (size_t r = 0; r < rows.size() / width; ++r) {
            encode_row(dtype, &rows[r * width], &bytes[r * row_bytes], width);
            decode_row(dtype, &bytes[r * row_bytes], &decoded[r * width], width);
        }
    }
    DType dtype;
    int64_t row_bytes;
    std::vector<std::byte> bytes;
    std::vector<float> decoded;
};

/// Queries, and keys and values of one sequence, [position][head][dim], in memory that decodes to
/// NaN past its end.
struct Data {
    explicit Data(const Case& c)
        : c(c),
          random(c.rows * 31 + c.position),
          values(c.value_dim > 0 ? c.value_dim : c.head_dim),
          k(c.dtype, rows(c.head_dim, c.size), c.head_dim),
          v(c.dtype, rows(values, 1), values) {
        fill(q, c.rows * c.heads * c.head_dim, c.size);
        fill(sinks, c.heads, 3);
        y.assign(c.rows * c.heads * values, NAN);
    }
    std::vector<float> rows(int dim, double size) {
        std::vector<float> x;
        fill(x, (c.position + c.rows) * c.kv_heads * dim, size);
        x.insert(x.end(), int64_t{70} * c.kv_heads * dim, NAN);
        return x;
    }
    void fill(std::vector<float>& x, int64_t n, double scale) {
        for (int64_t i = 0; i < n; ++i) x.push_back(static_cast<float>(scale * random.normal()));
    }
    AttentionShape shape() const {
        return {.heads = c.heads,
                .kv_heads = c.kv_heads,
                .head_dim = c.head_dim,
                .scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim)),
                .value_dim = c.value_dim,
                .window = c.window,
                .softcap = c.softcap,
                .sinks = c.sinks ? sinks.data() : nullptr};
    }
    AttentionRun run() const {
        const Stored& w = c.aliased ? k : v;
        return {{k.bytes.data(), w.bytes.data(), c.kv_heads * k.row_bytes, c.kv_heads * w.row_bytes,
                 k.row_bytes, w.row_bytes, c.dtype},
                0,
                c.rows,
                c.position};
    }
    MatrixView<const float> queries() const { return {q.data(), c.rows, c.heads * c.head_dim}; }
    MatrixView<float> output() { return {y.data(), c.rows, int64_t{c.heads} * values}; }
    double key(int64_t j, int h, int i) const {
        return k.decoded[(j * c.kv_heads + h) * c.head_dim + i];
    }
    double value(int64_t j, int h, int i) const {
        return c.aliased ? key(j, h, i) : v.decoded[(j * c.kv_heads + h) * values + i];
    }

    Case c;
    Random random;
    int values;
    Stored k, v;
    std::vector<float> q, sinks, y;
};

/// The definition in double for row t, head h, and how far off the kernel may be.
struct Expected {
    Expected(const Data& d, int64_t t, int h) : y(d.values) {
        const Case& c = d.c;
        const int group = c.heads / c.kv_heads;
        const int64_t length = c.position + t + 1;
        const int64_t first = c.window > 0 ? std::max<int64_t>(0, length - c.window) : 0;
        const float* q = &d.q[(t * c.heads + h) * c.head_dim];
        std::vector<double> p(length);
        double top = c.sinks ? d.sinks[h] : -INFINITY, magnitude = 0;
        for (int64_t j = first; j < length; ++j) {
            double size = 0;
            for (int i = 0; i < c.head_dim; ++i) {
                const double term = q[i] * d.key(j, h / group, i) * d.shape().scale;
                p[j] += term;
                size += std::abs(term);
            }
            magnitude = std::max(magnitude, size);
            if (c.softcap > 0) p[j] = c.softcap * std::tanh(p[j] / c.softcap);
            top = std::max(top, p[j]);
        }
        double sum = c.sinks ? std::exp(d.sinks[h] - top) : 0, largest = 0;
        for (int64_t j = first; j < length; ++j) sum += p[j] = std::exp(p[j] - top);
        for (int64_t j = first; j < length; ++j) {
            for (int i = 0; i < d.values; ++i) {
                const double v = d.value(j, h / group, i);
                y[i] += p[j] / sum * v;
                largest = std::max(largest, std::abs(v));
            }
        }
        // In f32 a score is off by at most dim * 2^-24 of the sum of its terms' sizes (and 2^-21 of
        // the cap), a weight by as much relatively, plus 2^-21 for its exponential; so are the
        // average and its divisor. Roundings of the weighted sum: one per position in each lane,
        // relative to itself.
        const double weight = c.head_dim * 0x1p-24 * magnitude + 0x1p-21 * (1 + c.softcap);
        tolerance = (2 * weight + length * 0x1p-24) * largest;
    }
    std::vector<double> y;
    double tolerance;
};

void compare(Data& d) {
    for (int64_t t = 0; t < d.c.rows; ++t) {
        for (int h = 0; h < d.c.heads; ++h) {
            const Expected expected(d, t, h);
            const float* y = &d.y[(t * d.c.heads + h) * d.values];
            for (int i = 0; i < d.values; ++i)
                ASSERT_NEAR(y[i], expected.y[i], expected.tolerance)
                    << "row " << t << " head " << h << " of " << d.c.heads << "/" << d.c.kv_heads
                    << " in " << dtype_info(d.c.dtype).name << ", dimensions " << d.c.head_dim
                    << ", " << d.values << ", position " << d.c.position;
        }
    }
}

void run_case(const Case& c) {
    Data d(c);
    const AttentionRun run = d.run();
    SerialExecutor executor;
    AttentionWorkspace workspace;
    attention(d.queries(), {&run, 1}, d.shape(), d.output(), workspace, executor);
    compare(d);
}

TEST_P(Attention, EqualsTheDefinition) {
    const Case cases[] = {{1, 1, 2, 1, 0},       {4, 4, 64, 1, 0},    {4, 4, 64, 1, 300},
                          {8, 2, 64, 1, 129},    {8, 2, 64, 3, 62},   {8, 1, 32, 70, 10},
                          {2, 2, 64, 200, 0},    {4, 2, 128, 65, 63}, {3, 3, 6, 40, 5},
                          {2, 1, 80, 33, 64},    {4, 4, 18, 17, 47},  {64, 1, 16, 3, 100},
                          {2, 2, 16, 100, 0, 8}, {2, 2, 256, 20, 500}};
    for (const Case& c : cases) run_case(c);
}

constexpr DType kFormats[] = {DType::f32, DType::f16, DType::q8_0};

TEST_P(Attention, ReadsEveryFormatWithEveryNumberOfQueries) {
    for (const DType dtype : kFormats)
        for (const int group : {1, 2, 3, 4, 7})
            for (const int dim : {32, 96, 128})
                for (const int64_t position : {3, 130})
                    run_case({2 * group, 2, dim, 1, position, 1, dtype});
    for (const int dim : {6, 18, 72}) run_case({2, 2, dim, 1, 70, 1, DType::f16});
    for (const int dim : {6, 18, 72}) run_case({2, 2, dim, 9, 70, 1, DType::f16});
}

TEST_P(Attention, LongContextsAreCutIntoRangesAndMerged) {
    for (const DType dtype : kFormats) {
        run_case({2, 2, 32, 1, 511, 1, dtype});  // one range, full
        run_case({2, 2, 32, 1, 512, 1, dtype});  // two
        run_case({4, 2, 32, 3, 1500, 4, dtype});
        run_case({8, 1, 64, 2, 9000, 2, dtype});  // longer ranges
        run_case({2, 2, 32, 1, 2000, 2, dtype, 0, 700, true});
    }
}

TEST_P(Attention, WindowsHideWhatLiesBefore) {
    for (const DType dtype : {DType::f32, DType::q8_0})
        for (const int64_t window : {1, 5, 64, 100, 1000})
            for (const int64_t position : {0, 63, 64, 300}) {
                run_case({2, 2, 32, 1, position, 1, dtype, 0, window});
                run_case({4, 1, 32, 150, position, 1, dtype, 0, window});
                run_case({2, 2, 32, 3, position, 1, dtype, 0, window});
            }
}

TEST_P(Attention, SinksJoinTheDenominatorAndCapsBoundScores) {
    for (const int64_t rows : {1, 2, 90}) {
        run_case({4, 2, 64, rows, 70, 1, DType::f32, 0, 0, true});
        run_case({4, 2, 64, rows, 70, 1, DType::f16, 0, 20, true});
        run_case({4, 2, 64, rows, 70, 3, DType::f32, 0, 0, false, 5.0f});
        run_case({4, 2, 64, rows, 700, 3, DType::q8_0, 0, 0, true, 30.0f});
    }
}

TEST_P(Attention, ValuesHaveTheirOwnDimensionAndMayLieInTheKeys) {
    for (const DType dtype : kFormats)
        for (const int64_t rows : {1, 3, 70}) {
            run_case({4, 4, 96, rows, 100, 1, dtype, 64});
            run_case({4, 2, 32, rows, 100, 1, dtype, 160});
            run_case({8, 1, 96, rows, 600, 1, dtype, 64, 0, false, 0, true});
        }
    run_case({3, 3, 24, 5, 100, 1, DType::f16, 18});
}

TEST_P(Attention, AnyNumberOfQueriesAKey) {
    for (const DType dtype : kFormats)
        for (const int64_t rows : {1, 2, 3, 4, 5, 7, 8, 9, 70, 200}) {
            run_case({4, 2, 64, rows, 100, 1, dtype, 0, 0, true, 0, false});
            run_case({2, 2, 128, rows, 37, 1, dtype, 0, 50, false, 0, false});
            run_case({8, 1, 96, rows, 600, 1, dtype, 64, 0, false, 0, true});
        }
    run_case({3, 3, 18, 50, 100, 1, DType::f16, 22, 0, false, 0, false});
    run_case({2, 2, 33, 50, 100, 1, DType::f32, 0, 0, false, 0, false});
}

TEST_P(Attention, RunsOfSeveralSequencesShareACall) {
    Data a({4, 2, 32, 37, 600}), b({4, 2, 32, 1, 1300});  // both cut into ranges
    std::vector<float> q = b.q;                           // b's row first, then a's
    q.insert(q.end(), a.q.begin(), a.q.end());
    std::vector<float> y(q.size() + 128, 42.0f);
    q.resize(y.size());
    AttentionRun runs[] = {a.run(), b.run()};
    runs[0].first = 1;
    ThreadTeam team(3);
    AttentionWorkspace workspace;
    attention({q.data(), 39, 128}, runs, a.shape(), {y.data(), 39, 128}, workspace, team);
    std::copy(y.begin(), y.begin() + 128, b.y.begin());
    std::copy(y.begin() + 128, y.begin() + 38 * 128, a.y.begin());
    compare(a);
    compare(b);
    EXPECT_EQ(std::vector<float>(y.begin() + 38 * 128, y.end()), std::vector<float>(128, 42.0f));
}

TEST_P(Attention, DoesNotDependOnTheNumberOfWorkers) {
    for (const Case& c : {Case{6, 3, 32, 150, 20}, Case{6, 3, 32, 2, 2100, 1, DType::f16}}) {
        Data d(c);
        const AttentionRun run = d.run();
        std::vector<float> first;
        for (const int workers : {1, 2, 5}) {
            ThreadTeam team(workers);
            AttentionWorkspace workspace;
            attention(d.queries(), {&run, 1}, d.shape(), d.output(), workspace, team);
            if (workers == 1) first = d.y;
            EXPECT_EQ(d.y, first);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Isas, Attention, ::testing::ValuesIn(available_isas()),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

}  // namespace
}  // namespace muster
