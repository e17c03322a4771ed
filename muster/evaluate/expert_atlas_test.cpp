// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/expert_atlas.h"

#include <gmock/gmock.h>

#include <cmath>

#include "muster/core/random.h"

namespace muster {
namespace {

/// One layer; experts[t] work for token t.
ExpertAtlas atlas_of(const std::vector<float>& losses, const std::vector<uint16_t>& experts) {
    ExpertAtlas atlas;
    atlas.losses = losses;
    atlas.layers.resize(2);  // the first is dense
    atlas.layers[1].load.load.resize(4);
    atlas.layers[1].experts = experts;
    return atlas;
}

ExpertAtlas domains_of(const std::vector<std::vector<int64_t>>& rows) {
    ExpertAtlas atlas;
    LayerAtlas& layer = atlas.layers.emplace_back();
    layer.load.load.resize(rows[0].size());
    for (const auto& row : rows) {
        atlas.domains.push_back(std::to_string(atlas.domains.size()));
        layer.by_domain.insert(layer.by_domain.end(), row.begin(), row.end());
        for (size_t e = 0; e < row.size(); ++e) layer.load.load[e] += row[e];
    }
    return atlas;
}

TEST(Difficulty, CutsAtEqualShares) {
    std::vector<float> losses;
    std::vector<uint16_t> experts;
    for (int i = 0; i < 1000; ++i) {
        const int hard = (i * 7) % 1000;
        losses.push_back(static_cast<float>(hard));
        experts.push_back(static_cast<uint16_t>(1 + hard / 500));
    }
    const ExpertAtlas atlas = atlas_of(losses, experts);
    const auto bins = difficulty(atlas);
    ASSERT_EQ(bins.size(), 10u);
    for (size_t b = 0; b < 10; ++b) {
        EXPECT_EQ(bins[b].tokens, 100);
        EXPECT_EQ(bins[b].low, 100.0 * double(b));
        EXPECT_EQ(bins[b].high, 100.0 * double(b) + 99);
        EXPECT_DOUBLE_EQ(bins[b].experts.mean, b < 5 ? 1 : 2);
        EXPECT_LE(bins[b].experts.low, bins[b].experts.mean);
        EXPECT_GE(bins[b].experts.high, bins[b].experts.mean);
    }
    EXPECT_EQ(difficulty(atlas_of({1, 2}, {1, 1})).size(), 1u);
    EXPECT_TRUE(difficulty(atlas_of({}, {})).empty());
}

TEST(Difficulty, RankCorrelationSharesTies) {
    EXPECT_DOUBLE_EQ(difficulty_correlation(atlas_of({1, 2, 3}, {1, 2, 3})), 1);
    EXPECT_DOUBLE_EQ(difficulty_correlation(atlas_of({3, 2, 1}, {1, 2, 3})), -1);
    EXPECT_EQ(difficulty_correlation(atlas_of({3, 2, 1}, {2, 2, 2})), 0);
    // Ranks 0 1 2 3 against 0.5 0.5 2.5 2.5: 4 / sqrt(5 * 4).
    EXPECT_NEAR(difficulty_correlation(atlas_of({1, 2, 3, 4}, {1, 1, 2, 2})), 4 / std::sqrt(20),
                1e-12);
}

TEST(Specialisation, IsZeroAlikeAndOneApart) {
    const Specialisation alike = specialisation(domains_of({{10, 30, 0}, {100, 300, 0}}), 0);
    EXPECT_NEAR(alike.layer, 0, 1e-12);
    EXPECT_NEAR(alike.experts[0], 0, 1e-12);
    EXPECT_EQ(alike.experts[2], -1) << "never used";
    const Specialisation apart = specialisation(domains_of({{10, 0}, {0, 5000}}), 0);
    EXPECT_NEAR(apart.layer, 1, 1e-12) << "whatever the sizes";
    EXPECT_NEAR(apart.experts[1], 1, 1e-12);
    const Specialisation one = specialisation(domains_of({{10, 3}}), 0);
    EXPECT_EQ(one.layer, 0);
    EXPECT_EQ(specialisation(domains_of({{10, 3}, {0, 0}}), 0).layer, 0) << "an empty domain";
}

TEST(Specialisation, IsTheMutualInformation) {
    const std::vector<std::vector<int64_t>> rows{{10, 30, 60}, {20, 20, 10}};
    double information = 0;
    for (size_t d = 0; d < 2; ++d)
        for (size_t e = 0; e < 3; ++e) {
            const double total[] = {100, 50};
            const double here = double(rows[d][e]) / total[d];
            const double mean = 0.5 * (double(rows[0][e]) / 100 + double(rows[1][e]) / 50);
            information += 0.5 * here * std::log(here / mean);
        }
    EXPECT_NEAR(specialisation(domains_of(rows), 0).layer, information / std::log(2), 1e-12);
}

TEST(Specialisation, ChanceIsWhatNoPreferenceGives) {
    Random random(5);
    double sum = 0, chance = 0;
    for (int run = 0; run < 200; ++run) {
        std::vector<std::vector<int64_t>> rows(3, std::vector<int64_t>(8));
        for (size_t d = 0; d < 3; ++d)
            for (int i = 0; i < 200 * int(d + 1); ++i) ++rows[d][random.below(8)];
        const Specialisation s = specialisation(domains_of(rows), 0);
        sum += s.layer;
        chance += s.chance;
    }
    // The spread of one run's score is about as large as its mean over sqrt(7).
    EXPECT_NEAR(sum / chance, 1, 0.1);
}

TEST(FrequentPairs, StandFurthestAboveChance) {
    LayerAtlas layer;
    layer.load.load = {50, 50, 10, 0};
    layer.load.tokens = 100;
    layer.pairs.resize(16);
    layer.pairs[0 * 4 + 1] = 25;  // as expected
    layer.pairs[0 * 4 + 2] = 10;  // twice
    const auto pairs = frequent_pairs(layer, 5);
    ASSERT_EQ(pairs.size(), 2u);
    EXPECT_EQ(pairs[0].a, 0);
    EXPECT_EQ(pairs[0].b, 2);
    EXPECT_EQ(pairs[0].tokens, 10);
    EXPECT_DOUBLE_EQ(pairs[0].lift, 2);
    EXPECT_DOUBLE_EQ(pairs[0].z, 5 / std::sqrt(5));
    EXPECT_DOUBLE_EQ(pairs[1].lift, 1);
    EXPECT_EQ(frequent_pairs(layer, 1).size(), 1u);
}

}  // namespace
}  // namespace muster
