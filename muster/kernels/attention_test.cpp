// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "muster/core/random.h"
#include "muster/core/thread_team.h"
#include "muster/cpu/isa.h"

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
};

/// Queries, and keys and values of one sequence in a buffer that is NaN past its end.
struct Data {
    explicit Data(const Case& c) : c(c), random(c.rows * 31 + c.position) {
        fill(q, c.rows * c.heads * c.head_dim, c.size);
        const int64_t width = int64_t{c.kv_heads} * c.head_dim, length = c.position + c.rows;
        fill(k, length * width, c.size);
        fill(v, length * width, 1);
        for (auto* x : {&k, &v}) x->insert(x->end(), 70 * width, NAN);
        y.assign(q.size(), NAN);
    }
    void fill(std::vector<float>& x, int64_t n, double scale) {
        for (int64_t i = 0; i < n; ++i) x.push_back(static_cast<float>(scale * random.normal()));
    }
    AttentionShape shape() const {
        return {c.heads, c.kv_heads, c.head_dim, 1.0f / std::sqrt(static_cast<float>(c.head_dim))};
    }
    AttentionRun run() const {
        return {{k.data(), v.data(), int64_t{c.kv_heads} * c.head_dim, c.head_dim},
                0,
                c.rows,
                c.position};
    }
    MatrixView<const float> queries() const { return {q.data(), c.rows, c.heads * c.head_dim}; }
    MatrixView<float> output() { return {y.data(), c.rows, c.heads * c.head_dim}; }

    Case c;
    Random random;
    std::vector<float> q, k, v, y;
};

void compare(Data& d) {
    const Case& c = d.c;
    const int dim = c.head_dim, group = c.heads / c.kv_heads, width = c.kv_heads * dim;
    for (int64_t t = 0; t < c.rows; ++t) {
        for (int h = 0; h < c.heads; ++h) {
            const int64_t at = (t * c.heads + h) * dim, length = c.position + t + 1;
            std::vector<double> p(length), expected(dim);
            double top = -INFINITY, sum = 0, magnitude = 0;
            for (int64_t j = 0; j < length; ++j) {
                double size = 0;
                for (int i = 0; i < dim; ++i) {
                    const double term = double{d.q[at + i]} * d.k[j * width + h / group * dim + i];
                    p[j] += term * d.shape().scale;
                    size += std::abs(term) * d.shape().scale;
                }
                magnitude = std::max(magnitude, size);
                top = std::max(top, p[j]);
            }
            for (double& x : p) sum += x = std::exp(x - top);
            double largest = 0;
            for (int64_t j = 0; j < length; ++j) {
                for (int i = 0; i < dim; ++i) {
                    const double v = d.v[j * width + h / group * dim + i];
                    expected[i] += p[j] / sum * v;
                    largest = std::max(largest, std::abs(v));
                }
            }
            // A score is off by at most dim * 2^-24 of the sum of its terms' sizes, a weight by as
            // much relatively, plus 2^-21 for its exponential; so are the average and its divisor.
            // Roundings of the weighted sum: one per position in each lane, relative to itself.
            const double weight = dim * 0x1p-24 * magnitude + 0x1p-21;
            const double tolerance = (2 * weight + length * 0x1p-24) * largest;
            for (int i = 0; i < dim; ++i)
                ASSERT_NEAR(d.y[at + i], expected[i], tolerance)
                    << "row " << t << " head " << h << " of " << c.heads << "/" << c.kv_heads;
        }
    }
}

TEST_P(Attention, EqualsTheDefinition) {
    const Case cases[] = {{1, 1, 2, 1, 0},       {4, 4, 64, 1, 0},    {4, 4, 64, 1, 300},
                          {8, 2, 64, 1, 129},    {8, 2, 64, 3, 62},   {8, 1, 32, 70, 10},
                          {2, 2, 64, 200, 0},    {4, 2, 128, 65, 63}, {3, 3, 6, 40, 5},
                          {2, 1, 80, 33, 64},    {4, 4, 18, 17, 47},  {64, 1, 16, 3, 100},
                          {2, 2, 16, 100, 0, 8}, {2, 2, 256, 20, 500}};
    SerialExecutor executor;
    AttentionWorkspace workspace;
    for (const Case& c : cases) {
        Data d(c);
        const AttentionRun run = d.run();
        attention(d.queries(), {&run, 1}, d.shape(), d.output(), workspace, executor);
        compare(d);
    }
}

TEST_P(Attention, RunsOfSeveralSequencesShareACall) {
    Data a({4, 2, 32, 37, 9}), b({4, 2, 32, 1, 80});
    std::vector<float> q = b.q;  // b's row first, then a's
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
    Data d({6, 3, 32, 150, 20});
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

INSTANTIATE_TEST_SUITE_P(Isas, Attention, ::testing::ValuesIn(available_isas()),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

}  // namespace
}  // namespace muster
