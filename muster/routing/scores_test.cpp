// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/scores.h"

#include <gmock/gmock.h>

#include <bit>
#include <limits>

#include "muster/routing/exact_sum.h"
#include "muster/routing/testing.h"

namespace muster {
namespace {

using namespace routing_testing;

std::vector<float> scores_of(Score score, std::span<const float> logits) {
    std::vector<float> scores(logits.size());
    score_logits(score, logits, scores);
    return scores;
}

double reference(Score score, double x) {
    if (score == Score::relu) return std::max(x, 0.0);
    if (score == Score::sqrt_softplus)
        return std::sqrt(std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))));
    return 1 / (1 + std::exp(-x));
}

// exp_nonpositive is off by under 2^-22 relative; a division and an addition add 2 roundings of
// 2^-24 each.
constexpr double kRelative = 0x1p-21;

TEST(Scores, ElementwiseOnesFollowTheirFormulas) {
    for (const Score score : {Score::sigmoid, Score::cosine, Score::sqrt_softplus, Score::relu}) {
        std::vector<float> logits;
        for (float x = -60; x <= 60; x += 0.0371f) logits.push_back(x);
        const auto scores = scores_of(score, logits);
        for (size_t i = 0; i < logits.size(); ++i) {
            const double expected = reference(score, logits[i]);
            EXPECT_NEAR(scores[i], expected, kRelative * expected) << logits[i];
        }
    }
}

TEST(Scores, SoftmaxFollowsItsFormula) {
    for (const int experts : {1, 2, 3, 8, 17, 64, 257}) {
        const Logits logits = random_logits(20, experts, experts);
        for (int t = 0; t < logits.tokens; ++t) {
            const auto row = logits.row(t);
            const auto scores = scores_of(Score::softmax, row);
            double sum = 0, total = 0;
            for (const float x : row) sum += std::exp(static_cast<double>(x));
            for (int e = 0; e < experts; ++e) {
                const double expected = std::exp(static_cast<double>(row[e])) / sum;
                EXPECT_NEAR(scores[e], expected, 2 * kRelative * expected);
                total += scores[e];
            }
            EXPECT_NEAR(total, 1, 1e-6);
        }
    }
}

TEST(Scores, ExtremeLogitsStayFinite) {
    const float huge = std::numeric_limits<float>::max();
    const std::vector<float> logits{huge, -huge, 0, 1e30f, -1e30f, 100, -100, 1e-40f, -1e-40f};
    for (const Score score :
         {Score::softmax, Score::sigmoid, Score::sqrt_softplus, Score::relu, Score::cosine})
        for (const float s : scores_of(score, logits)) EXPECT_TRUE(std::isfinite(s) && s >= 0) << s;
    EXPECT_EQ(scores_of(Score::softmax, logits)[0], 1);
}

TEST(Scores, BitsFollowAPermutationOfTheExperts) {
    Random random(5);
    for (const int experts : {3, 8, 63, 64, 200}) {
        const Logits logits = random_logits(1, experts, experts);
        std::vector<int> to(experts);
        std::iota(to.begin(), to.end(), 0);
        std::shuffle(to.begin(), to.end(), random);
        std::vector<float> moved(experts);
        for (int e = 0; e < experts; ++e) moved[to[e]] = logits.data[e];
        for (const Score score : {Score::softmax, Score::sigmoid, Score::sqrt_softplus}) {
            const auto a = scores_of(score, logits.row(0)), b = scores_of(score, moved);
            for (int e = 0; e < experts; ++e)
                EXPECT_EQ(std::bit_cast<uint32_t>(a[e]), std::bit_cast<uint32_t>(b[to[e]]));
        }
    }
}

// The very bits, so that another compiler, CPU or set of flags that changes them is noticed. The
// logits are computed exactly.
TEST(Scores, BitsAreTheSameEverywhere) {
    std::vector<float> logits(64);
    for (int e = 0; e < 64; ++e) logits[e] = static_cast<float>((e * 37) % 64 - 32) / 8;
    const auto digest = [&](Score score) {
        uint64_t hash = 0;
        for (const float s : scores_of(score, logits))
            hash = mix64(hash ^ std::bit_cast<uint32_t>(s));
        return hash;
    };
    EXPECT_EQ(digest(Score::softmax), 7162973576083962312u);
    EXPECT_EQ(digest(Score::sigmoid), 4226191769574325896u);
    EXPECT_EQ(digest(Score::sqrt_softplus), 1661942587184948564u);
}

TEST(Scores, FindsTheFirstNotFinite) {
    for (int n = 1; n < 20; ++n) {
        std::vector<float> row(n, 3e38f);
        EXPECT_EQ(first_not_finite(row), -1);
        for (int e = n - 1; e >= 0; --e) {
            row[e] = e % 2 == 0 ? std::nanf("") : -std::numeric_limits<float>::infinity();
            EXPECT_EQ(first_not_finite(row), e);
        }
    }
}

TEST(ExactSum, DoesNotDependOnTheOrder) {
    Random random(3);
    for (const int n : {1, 5, 63, 64, 1003}) {
        for (const float bound : {1e-30f, 1.0f, 3e38f}) {
            std::vector<float> terms(n);
            double plain = 0;
            for (float& x : terms) {
                x = static_cast<float>(std::pow(random.uniform(), 30)) * bound;
                plain += x;
            }
            const ExactSum exact(bound, n);
            const double sum = exact.sum(terms.data(), n);
            EXPECT_NEAR(sum, plain, n * 0x1p-39 * bound);
            std::shuffle(terms.begin(), terms.end(), random);
            EXPECT_EQ(exact.sum(terms.data(), n), sum);
            double one_by_one = 0;
            for (const float x : terms) one_by_one += exact.term(x);
            EXPECT_EQ(one_by_one, sum);
        }
    }
}

}  // namespace
}  // namespace muster
