// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/selection.h"

#include <gmock/gmock.h>

#include <set>

#include "muster/core/error.h"
#include "muster/routing/testing.h"

// Each selection against an independent reference of a few lines, on plain and on tied logits.
namespace muster {
namespace {

using namespace routing_testing;
using testing::ElementsAre;

std::span<const float> row(const Routed& routed, int t) {
    const size_t experts = static_cast<size_t>(routed.table.num_experts);
    return {routed.scores.data() + t * experts, experts};
}

/// Routes random tokens and compares each with reference(scores of the token, token).
template <typename Reference>
void compare(const char* policy, const RouterSpec& spec, Reference reference,
             const RouterParameters& parameters = {}, const RouteContext& context = {}) {
    for (const bool coarse : {false, true}) {
        const Logits logits = random_logits(200, spec.num_experts, 77 + coarse, coarse);
        const Routed routed = run(logits, resolved(policy, spec), parameters, context);
        for (int t = 0; t < logits.tokens; ++t)
            ASSERT_EQ(experts_of(routed.table, t), reference(row(routed, t), t))
                << policy << ", token " << t;
    }
}

TEST(Selection, TopK) {
    for (const int k : {1, 2, 8, 16})
        compare(("top-k:" + std::to_string(k)).c_str(), spec_of(16), [k](auto scores, int) {
            auto order = ranking(scores);
            order.resize(k);
            return order;
        });
}

RouteContext in_layer(int layer) {
    RouteContext context;
    context.layer = layer;
    return context;
}

TEST(Selection, CountedMeansGiveTheValueOverPositions) {
    for (const double value : {1.25, 2.5, 3.0, 7.9}) {
        ResolvedRouter router = resolved(("mean:" + std::to_string(value)).c_str(), spec_of(16));
        router.counted = value;
        for (const int layer : {0, 1, 2, 9}) {
            const Routed routed = run(random_logits(64, 16, 5), router, {}, in_layer(layer));
            for (int t = 0; t < 64; ++t) {
                auto best = ranking(row(routed, t));
                best.resize(routed.table.token_experts(t).size());
                EXPECT_EQ(experts_of(routed.table, t), best);
                EXPECT_NEAR(routed.table.offsets[t + 1], (t + 1) * value, 1) << value << " " << t;
            }
        }
    }
    // Layers take turns with the expert more.
    ResolvedRouter router = resolved("mean:1.5", spec_of(4));
    router.counted = 1.5;
    const Logits one = random_logits(1, 4, 1);
    EXPECT_EQ(run(one, router, {}, in_layer(0)).table.activations(), 1);
    EXPECT_EQ(run(one, router, {}, in_layer(1)).table.activations(), 2);
    // Bounds hold, forced experts replace.
    router = resolved("mean:3,min=1,max=5,ban=0.3,force=0.7", spec_of(8));
    router.counted = 3;
    const Routed forced = run(random_logits(20, 8, 2), router);
    for (int t = 0; t < 20; ++t) {
        EXPECT_THAT(experts_of(forced.table, t), testing::SizeIs(3));
        EXPECT_THAT(experts_of(forced.table, t), testing::Contains(7));
        EXPECT_THAT(experts_of(forced.table, t), testing::Not(testing::Contains(3)));
    }
}

TEST(Selection, CountedMeansTellWhatEachPWouldGive) {
    for (const char* policy :
         {"mean:1.5", "mean:4,min=2,max=9", "mean:4,ban=0.2,ban=0.5", "mean:4,force=0.3,force=0.1"})
        for (const bool coarse : {false, true}) {
            ResolvedRouter router = resolved(policy, spec_of(16));
            const Logits logits = random_logits(60, 16, 8, coarse);
            router.counted = 4;
            const auto by_grid = run(logits, router).by_grid;
            router.counted = 0;
            for (int i = 0; i < kGridPoints; ++i) {
                router.p = grid_p()[i];
                const RouteTable table = run(logits, router).table;
                for (int t = 0; t < 60; ++t)
                    EXPECT_EQ(table.token_experts(t).size(), by_grid[t][i]) << policy << " " << i;
            }
        }
}

TEST(Selection, CountedMeansNeedPositions) {
    ResolvedRouter router = resolved("mean:1.5", spec_of(4));
    router.counted = 1.5;
    RouteScratch scratch;
    RouteTable table;
    const Logits logits = random_logits(2, 4, 1);
    EXPECT_THROW(route(logits.view(), router, {}, {}, scratch, table), Error);
}

std::vector<int> prefix(std::span<const float> scores, double p) {
    double total = 0, sum = 0;
    for (const float s : scores) total += s;
    std::vector<int> chosen;
    for (const int e : ranking(scores)) {
        chosen.push_back(e);
        sum += scores[e];
        if (sum >= p * total * (1 - 1e-12)) break;  // sums of doubles in another order
    }
    return chosen;
}

TEST(Selection, TopP) {
    for (const char* score : {"softmax", "sigmoid", "sqrt-softplus", "cosine"})
        for (const double p : {0.05, 0.4, 0.7, 0.95, 1.0})
            for (const int experts : {1, 3, 16, 100})
                compare(("top-p:" + std::to_string(p) + ",score=" + score).c_str(),
                        spec_of(experts), [p](auto scores, int) { return prefix(scores, p); });
}

TEST(Selection, TopPKeepsTheCrossingExpert) {
    // ReLU scores 4, 3, 2, 1 of a total of 10: exact shares.
    const Logits logits{1, 4, {2, 4, 1, 3}};
    const auto chosen = [&](const char* policy) {
        return experts_of(run(logits, resolved(policy, spec_of(4))).table, 0);
    };
    EXPECT_THAT(chosen("top-p:0.4,score=relu"), ElementsAre(1));
    EXPECT_THAT(chosen("top-p:0.41,score=relu"), ElementsAre(1, 3));
    EXPECT_THAT(chosen("top-p:0.7,score=relu"), ElementsAre(1, 3));
    EXPECT_THAT(chosen("top-p:0.71,score=relu"), ElementsAre(1, 3, 0));
    EXPECT_THAT(chosen("top-p:0.9,score=relu"), ElementsAre(1, 3, 0));
    EXPECT_THAT(chosen("top-p:1,score=relu"), ElementsAre(1, 3, 0, 2));
    // The mass is that of the experts that may be had: without expert 1 it is 6.
    EXPECT_THAT(chosen("top-p:0.5,score=relu,ban=0.1"), ElementsAre(3));
    EXPECT_THAT(chosen("top-p:0.51,score=relu,ban=0.1"), ElementsAre(3, 0));
}

TEST(Selection, MeanIsTopPWithAnEvenShare) {
    for (const char* policy : {"mean:3", "speed:3"})
        for (const double p : {0.2, 0.55, 0.9, 0.9995}) {
            ResolvedRouter router =
                resolved((policy + std::string(",max=16")).c_str(), spec_of(16));
            router.p = p;
            const Logits logits = random_logits(50, 16, 9);
            const Routed routed = run(logits, router);
            for (int t = 0; t < logits.tokens; ++t) {
                const std::span<const float> scores(routed.scores.data() + t * 16, 16);
                double mass = 0;
                int count = 0;
                for (const int e : ranking(scores)) {
                    mass += (scores[e] + 0x1p-10 / 16) / (1 + 0x1p-10);
                    ++count;
                    if (mass >= p) break;
                }
                EXPECT_EQ(static_cast<int>(routed.table.token_experts(t).size()), count);
            }
        }
}

TEST(Selection, EveryNumberHasAPUnderMean) {
    Logits logits = random_logits(1, 16, 9);
    for (const float sharpness : {0.0f, 1.0f, 100.0f}) {  // equal scores, and all but one zero
        Logits scaled = logits;
        for (float& x : scaled.data) x *= sharpness;
        ResolvedRouter router = resolved("mean:3", spec_of(16));
        std::vector<bool> seen(17);
        for (double u = -4; u < 12; u += 0.01) {
            router.p = 1 / (1 + std::exp(-u));
            seen[run(scaled, router).table.activations()] = true;
        }
        for (int n = 1; n <= 16; ++n) EXPECT_TRUE(seen[n]) << n << " " << sharpness;
    }
    // No score above zero: the even share alone decides.
    for (float& x : logits.data) x = -1;
    ResolvedRouter relu = resolved("mean:3,score=relu", spec_of(16));
    relu.p = 0.5;
    EXPECT_EQ(run(logits, relu).table.activations(), 8);
}

TEST(Selection, Relative) {
    for (const double t : {0.0, 0.1, 0.5, 1.0})
        compare(("relative:" + std::to_string(t)).c_str(), spec_of(24), [t](auto scores, int) {
            std::vector<int> chosen = ranking(scores);
            const double best = scores[chosen[0]];
            std::erase_if(chosen, [&](int e) { return scores[e] < t * best; });
            return chosen;
        });
}

TEST(Selection, RelativeOverTheFirstFew) {  // SER: the first 4, then those above t
    compare("relative:0.5,min=4,max=8", spec_of(24), [](auto scores, int) {
        std::vector<int> chosen, order = ranking(scores);
        for (int i = 0; i < 8; ++i)
            if (i < 4 || scores[order[i]] >= 0.5 * scores[order[0]]) chosen.push_back(order[i]);
        return chosen;
    });
}

TEST(Selection, ThresholdTakesTheBestWhereNoneIsAbove) {
    std::vector<float> thresholds(12);
    for (int e = 0; e < 12; ++e) thresholds[e] = 0.8f + 0.015f * e;
    RouterParameters parameters;
    parameters.thresholds = thresholds;
    int lone = 0;
    compare(
        "threshold,score=cosine", spec_of(12),
        [&](auto scores, int) {
            std::vector<int> chosen, order = ranking(scores);
            for (const int e : order)
                if (scores[e] > thresholds[e]) chosen.push_back(e);
            lone += chosen.empty();
            return chosen.empty() ? std::vector<int>{order[0]} : chosen;
        },
        parameters);
    EXPECT_GT(lone, 0);
    EXPECT_THROW(run(random_logits(1, 12, 1), resolved("threshold", spec_of(12))), Error);
}

TEST(Selection, BiasRanksButNeitherWeighsNorCountsAsMass) {
    Random random(4);
    std::vector<float> bias(16);
    for (float& b : bias) b = static_cast<float>(random.normal());
    RouterParameters parameters;
    parameters.selection_bias = bias;
    const auto biased = [&](std::span<const float> scores) {
        std::vector<float> keys(scores.begin(), scores.end());
        for (int e = 0; e < 16; ++e) keys[e] += bias[e];
        return ranking(keys);
    };
    compare(
        "top-k:4,score=sigmoid", spec_of(16),
        [&](auto scores, int) {
            auto order = biased(scores);
            order.resize(4);
            return order;
        },
        parameters);
    compare(
        "top-p:0.5", spec_of(16),
        [&](auto scores, int) {
            std::vector<int> chosen;
            double sum = 0;
            for (const int e : biased(scores)) {
                if (sum >= 0.5 * (1 - 1e-12)) break;
                chosen.push_back(e);
                sum += scores[e];
            }
            return chosen;
        },
        parameters);
    const Routed routed =
        run(random_logits(9, 16, 1), resolved("top-k:4", spec_of(16)), parameters);
    for (int t = 0; t < 9; ++t)
        for (int i = 0; i < 4; ++i)
            EXPECT_EQ(routed.table.token_weights(t)[i],
                      row(routed, t)[routed.table.token_experts(t)[i]]);
}

TEST(Selection, GroupsByMaximumOrSumOfTheBest) {
    for (const int top : {1, 2, 3, 9}) {
        RouterSpec spec = spec_of(24, Selection::top_k, 5);
        spec.groups = 6;
        spec.groups_used = 3;
        spec.group_top = top;
        compare("model", spec, [&](auto scores, int) {
            std::vector<float> sums(6);
            for (int g = 0; g < 6; ++g) {
                std::vector<float> members(scores.begin() + 4 * g, scores.begin() + 4 * g + 4);
                std::sort(members.rbegin(), members.rend());
                for (int i = 0; i < std::min(top, 4); ++i) sums[g] += members[i];
            }
            const auto groups = ranking(sums);
            std::vector<int> chosen;
            for (const int e : ranking(scores))
                if (std::find(groups.begin(), groups.begin() + 3, e / 4) != groups.begin() + 3)
                    chosen.push_back(e);
            chosen.resize(5);
            return chosen;
        });
    }
}

TEST(Selection, HashFollowsTheTableInOrderOfTheScores) {
    const std::vector<int32_t> table{3, 1, 0, 2, 7, 7, 5, 4};  // two for each of four ids
    std::vector<int32_t> ids(200);
    for (int t = 0; t < 200; ++t) ids[t] = t % 4;
    RouterParameters parameters;
    parameters.hash_table = table;
    RouteContext context;
    context.token_ids = ids;
    const RouterSpec spec = spec_of(8, Selection::hash, 2);
    compare(
        "model", spec,
        [&](auto scores, int t) {
            const std::set<int> named{table[2 * ids[t]], table[2 * ids[t] + 1]};
            std::vector<int> chosen = ranking(scores);
            std::erase_if(chosen, [&](int e) { return !named.contains(e); });
            return chosen;
        },
        parameters, context);
    const Logits logits = random_logits(200, 8, 1);
    ids[17] = 4;
    EXPECT_THROW(run(logits, resolved("model", spec), parameters, context), Error);
    ids[17] = -1;
    EXPECT_THROW(run(logits, resolved("model", spec), parameters, context), Error);
    EXPECT_THROW(run(logits, resolved("model", spec), parameters), Error);
    EXPECT_THROW(run(logits, resolved("model", spec), {}, context), Error);
}

TEST(Selection, RandomIsUniformAndAFunctionOfSeedLayerAndPosition) {
    const int tokens = 20000;
    Logits logits{tokens, 10, std::vector<float>(tokens * 10, 0.0f)};
    const ResolvedRouter router = resolved("random:3", spec_of(10));
    const RouteTable first = run(logits, router).table;
    std::vector<int> load(10);
    for (const int e : first.experts) ++load[e];
    // Binomial with mean 6000 and deviation 65: five deviations.
    for (const int n : load) EXPECT_NEAR(n, 6000, 325);
    EXPECT_EQ(run(logits, router).table.experts, first.experts);
    RouteContext other;
    other.seed = 1;
    EXPECT_NE(run(logits, router, {}, other).table.experts, first.experts);
    const std::vector<uint64_t> mixed(20000, 1);
    RouteContext each;
    each.seeds = mixed;
    EXPECT_EQ(run(logits, router, {}, each).table.experts,
              run(logits, router, {}, other).table.experts);
    other = {};
    other.layer = 1;
    EXPECT_NE(run(logits, router, {}, other).table.experts, first.experts);
    const Logits one{1, 10, std::vector<float>(10, 0.0f)};
    const std::vector<int64_t> position{1234};
    other = {};
    other.positions = position;
    EXPECT_EQ(experts_of(run(one, router, {}, other).table, 0), experts_of(first, 1234));
}

TEST(Selection, ExpertChoiceTakesTheBestTokensOfEachExpert) {
    for (const int tokens : {1, 5, 30}) {
        for (const char* policy : {"expert-choice:1", "expert-choice:2.5", "expert-choice:8",
                                   "expert-choice:2,score=sigmoid,ban=0.3"}) {
            RouterSpec spec = spec_of(8);
            spec.capacity_factor = 1.25f;
            const ResolvedRouter router = resolved(policy, spec);
            const Logits logits = random_logits(tokens, 8, tokens, tokens == 30);
            const Routed routed = run(logits, router);
            const double share = router.spec.value * 1.25 / 8;
            const size_t capacity = std::min<size_t>(tokens, std::ceil(tokens * share));
            std::vector<std::set<int>> chosen(8);
            for (int t = 0; t < tokens; ++t)
                for (const int e : routed.table.token_experts(t)) chosen[e].insert(t);
            for (int e = 0; e < 8; ++e) {
                std::vector<float> column(tokens);
                for (int t = 0; t < tokens; ++t) column[t] = row(routed, t)[e];
                auto order = ranking(column);
                order.resize(router.ban == std::vector{e} ? 0 : capacity);
                EXPECT_EQ(chosen[e], std::set<int>(order.begin(), order.end())) << policy << e;
            }
            for (int t = 0; t < tokens; ++t) {
                auto sorted = experts_of(routed.table, t);
                const auto order = ranking(row(routed, t));
                std::sort(sorted.begin(), sorted.end(), [&](int a, int b) {
                    return std::find(order.begin(), order.end(), a) <
                           std::find(order.begin(), order.end(), b);
                });
                EXPECT_EQ(sorted, experts_of(routed.table, t));
            }
        }
    }
}

}  // namespace
}  // namespace muster
