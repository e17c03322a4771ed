// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/context_choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "muster/core/random.h"
#include "muster/routing/activation_plan.h"

namespace muster {
namespace {

constexpr int kLayers = 3, kExperts = 8, kClusters = 4;

/// Centres that prefer other experts each; layer 1 is dense.
std::vector<ContextCluster> clusters() {
    Random random(5);
    std::vector<ContextCluster> out(kClusters);
    for (ContextCluster& c : out)
        for (int l = 0; l < kLayers; ++l) {
            std::vector<float> centre(l == 1 ? 0 : kExperts);
            double sum = 0;
            for (float& x : centre) sum += x = static_cast<float>(random.uniform());
            for (float& x : centre) x /= static_cast<float>(sum);
            c.centre.push_back(centre);
        }
    return out;
}

/// A row's experts in a layer: so many, from an end of the list that the context says.
std::vector<int32_t> some_experts(Random& random, int context) {
    std::vector<int32_t> all;
    const auto n = 1 + random.below(3);
    while (all.size() < n) {
        const auto e = static_cast<int32_t>((random.below(4) + 4 * (context % 2)) % kExperts);
        if (std::find(all.begin(), all.end(), e) == all.end()) all.push_back(e);
    }
    return all;
}

/// The nearest centre to the mean of rows' shares, windows weighted by their age.
struct Brute {
    std::vector<std::vector<double>> shares =
        std::vector<std::vector<double>>(kLayers, std::vector<double>(kExperts, 0));
    double rows = 0;

    int nearest(const std::vector<ContextCluster>& all) const {
        int best = -1;
        double least = 1e300;
        for (int c = 0; c < kClusters; ++c) {
            double d = 0;
            for (size_t l = 0; l < kLayers; ++l)
                for (size_t e = 0; e < all[0].centre[l].size(); ++e) {
                    const double x =
                        shares[l][e] / rows - double{all[static_cast<size_t>(c)].centre[l][e]};
                    d += x * x;
                }
            if (d < least) least = d, best = c;
        }
        return best;
    }
};

TEST(ContextChoice, IsTheNearestCentreToTheSharesOfLate) {
    const auto all = clusters();
    ContextChoice choice(all);
    EXPECT_EQ(choice.cluster(), -1);
    Brute brute;
    Random random(9);
    std::vector<int> chosen;
    for (int window = 0; window < 60; ++window) {
        for (auto& layer : brute.shares)
            for (double& x : layer) x *= 15.0 / 16;
        brute.rows *= 15.0 / 16;
        for (int row = 0; row < 32; ++row)
            for (int l = 0; l < kLayers; ++l) {
                const auto experts = some_experts(random, window / 20);
                choice.note(l, experts);
                for (const int32_t e : experts)
                    brute.shares[static_cast<size_t>(l)][static_cast<size_t>(e)] +=
                        1.0 / static_cast<double>(experts.size());
            }
        brute.rows += 32;
        choice.take();
        choice.end_window(32);
        EXPECT_EQ(choice.cluster(), brute.nearest(all)) << window;
        chosen.push_back(choice.cluster());
    }
    EXPECT_NE(chosen[19], chosen[39]) << "the text changed";
    EXPECT_EQ(chosen[19], chosen[59]) << "and changed back";
}

TEST(ContextChoice, CountsWhatIsTakenInAnyOrder) {
    const auto all = clusters();
    ContextChoice forward(all), backward(all);
    Random random(2);
    std::vector<std::vector<int32_t>> rows;
    for (int i = 0; i < 32; ++i) rows.push_back(some_experts(random, i % 2));
    for (const auto& row : rows) forward.note(0, row);
    forward.take();
    forward.note(0, rows[3]);
    forward.drop();
    for (size_t i = rows.size(); i-- > 0;) {
        backward.note(0, rows[i]);
        backward.take();
    }
    forward.end_window(32);
    backward.end_window(32);
    std::vector<double> a, b;
    forward.append_state(a);
    backward.append_state(b);
    EXPECT_EQ(a, b);
    EXPECT_EQ(a.size(), forward.state_size());
}

TEST(ContextChoice, ItsStateComesBack) {
    const auto all = clusters();
    ContextChoice choice(all), other(all);
    Random random(4);
    const auto read = [&](int rows) {
        for (int i = 0; i < rows; ++i) choice.note(0, some_experts(random, 1));
        choice.take();
    };
    read(32);
    choice.end_window(32);
    read(7);
    std::vector<double> state, window;
    choice.append_state(state);
    choice.append_window(window);
    ASSERT_EQ(window.size(), choice.window_size());
    other.restore(state);
    EXPECT_EQ(other.cluster(), choice.cluster());
    other.restore_window(window);
    choice.end_window(7);
    other.end_window(7);
    std::vector<double> a, b;
    choice.append_state(a);
    other.append_state(b);
    EXPECT_EQ(a, b);
    choice.restart();
    EXPECT_EQ(choice.cluster(), -1);
    b.clear();
    choice.append_state(b);
    EXPECT_EQ(b, std::vector<double>(choice.state_size(), 0));
}

}  // namespace
}  // namespace muster
