// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/statistics.h"

#include <gmock/gmock.h>

#include "muster/core/error.h"
#include "muster/routing/testing.h"

namespace muster {
namespace {

using namespace routing_testing;
using testing::ElementsAre;

RouteTable table_of(int experts, const std::vector<std::vector<int>>& tokens) {
    RouteTable table;
    table.clear(experts);
    for (const auto& token : tokens) {
        for (const int e : token) {
            table.experts.push_back(e);
            table.weights.push_back(0.5f);
        }
        table.offsets.push_back(table.activations());
    }
    return table;
}

TEST(LoadStatistics, CountsAndMeasures) {
    LoadStatistics s;
    s.add(table_of(4, {{0, 1}, {0}, {0, 1, 2}}));
    EXPECT_THAT(s.load, ElementsAre(3, 2, 1, 0));
    EXPECT_THAT(s.weight, ElementsAre(1.5, 1.0, 0.5, 0.0));
    EXPECT_EQ(s.tokens, 3);
    EXPECT_EQ(s.activations(), 6);
    EXPECT_DOUBLE_EQ(s.experts_per_token(), 2);
    EXPECT_DOUBLE_EQ(s.coefficient_of_variation(), std::sqrt(1.25) / 1.5);
    EXPECT_DOUBLE_EQ(s.max_over_mean(), 2);
    EXPECT_NEAR(s.entropy(), std::log(6.0) - (3 * std::log(3.0) + 2 * std::log(2.0)) / 6, 1e-12);
    EXPECT_EQ(s.dead_experts(), 1);
}

TEST(LoadStatistics, PerfectBalance) {
    LoadStatistics s;
    s.add(table_of(3, {{0}, {1}, {2}}));
    EXPECT_DOUBLE_EQ(s.coefficient_of_variation(), 0);
    EXPECT_DOUBLE_EQ(s.max_over_mean(), 1);
    EXPECT_NEAR(s.entropy(), std::log(3.0), 1e-12);
    EXPECT_EQ(s.dead_experts(), 0);
}

TEST(LoadStatistics, MergingEqualsAdding) {
    const RouteTable a = run(random_logits(9, 5, 1), resolved("top-k:2", spec_of(5))).table;
    const RouteTable b = run(random_logits(4, 5, 2), resolved("top-p:0.6", spec_of(5))).table;
    LoadStatistics both, first, second, empty;
    both.add(a), both.add(b);
    first.add(a), second.add(b);
    first.merge(empty);
    first.merge(second);
    empty.merge(first);
    for (const LoadStatistics* s : {&first, &empty}) {
        EXPECT_EQ(s->load, both.load);
        EXPECT_EQ(s->tokens, both.tokens);
        for (int e = 0; e < 5; ++e) EXPECT_NEAR(s->weight[e], both.weight[e], 1e-12);
    }
}

TEST(LoadStatistics, NothingCountedGivesZeros) {
    LoadStatistics s;
    for (int i = 0; i < 2; ++i) {
        EXPECT_EQ(s.experts_per_token(), 0);
        EXPECT_EQ(s.coefficient_of_variation(), 0);
        EXPECT_EQ(s.max_over_mean(), 0);
        EXPECT_EQ(s.entropy(), 0);
        s.add(table_of(4, {}));
    }
    EXPECT_EQ(s.dead_experts(), 4);
}

RoutingStatistics two_layers() {
    RoutingStatistics s;
    s.model = "tiny \"x\"";
    s.model_hash = 0xFEDCBA9876543210;
    s.policies = {{"top-k:2", 3}};
    s.layers.resize(2);  // the first is dense
    s.layers[1].add(table_of(3, {{0, 1}, {0}, {0, 1}}));
    s.layers[1].add_loss(std::vector<int32_t>{0, 1}, 1.5);
    return s;
}

TEST(LoadStatistics, OneTokenAtATimeIsTheSame) {
    LoadStatistics s;
    s.add(3, std::vector<int32_t>{0, 1}, std::vector<float>{0.5f, 0.5f});
    s.add(3, std::vector<int32_t>{0}, std::vector<float>{0.5f});
    s.add(3, std::vector<int32_t>{0, 1}, std::vector<float>{0.5f, 0.5f});
    EXPECT_EQ(s.load, two_layers().layers[1].load);
    EXPECT_EQ(s.weight, two_layers().layers[1].weight);
    EXPECT_EQ(s.tokens, 3);
}

TEST(RoutingStatistics, SurviveTheFile) {
    const RoutingStatistics before = two_layers();
    const RoutingStatistics after = statistics_from_json(to_json(before), "s.json");
    EXPECT_EQ(after.model, before.model);
    EXPECT_EQ(after.model_hash, before.model_hash);
    EXPECT_EQ(after.policies, before.policies);
    ASSERT_EQ(after.layers.size(), 2u);
    EXPECT_TRUE(after.layers[0].load.empty());
    EXPECT_EQ(after.layers[1].load, before.layers[1].load);
    EXPECT_EQ(after.layers[1].weight, before.layers[1].weight);
    EXPECT_THAT(after.layers[1].scored, ElementsAre(1, 1, 0));
    EXPECT_THAT(after.layers[1].loss, ElementsAre(1.5, 1.5, 0.0));
    EXPECT_EQ(after.layers[1].tokens, 3);
}

TEST(RoutingStatistics, MergeAndExport) {
    RoutingStatistics s = two_layers();
    RoutingStatistics other = two_layers();
    other.policies = {{"model", 3}};
    s.merge(other, "other");
    EXPECT_THAT(s.layers[1].load, ElementsAre(6, 4, 0));
    EXPECT_EQ(s.policies.size(), 2u);
    EXPECT_EQ(to_csv(s),
              "layer,expert,tokens,activations,share,weight,mean_weight,scored,loss,mean_loss\n"
              "1,0,6,6,0.6,3,0.5,2,3,1.5\n1,1,6,4,0.4,2,0.5,2,3,1.5\n1,2,6,0,0,0,,0,0,\n");
    other.model_hash = 1;
    EXPECT_THROW(s.merge(other, "other"), Error);
    EXPECT_THAT(s.layers[1].load, ElementsAre(6, 4, 0)) << "unchanged";
    other = two_layers();
    other.layers[1] = {};
    other.layers[1].add(table_of(4, {{0}}));
    EXPECT_THROW(s.merge(other, "other"), Error) << "another number of experts";
}

TEST(RoutingStatistics, DamagedFilesAreRefused) {
    const std::string good = to_json(two_layers());
    const auto refusal = [](const std::string& text) -> std::string {
        try {
            statistics_from_json(text, "s.json");
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    };
    const auto with = [&](const std::string& old, const std::string& now) {
        std::string text = good;
        const size_t at = text.find(old);
        EXPECT_NE(at, text.npos) << old;
        return refusal(text.replace(at, old.size(), now));
    };
    EXPECT_EQ(refusal(good), "");
    using testing::HasSubstr;
    EXPECT_THAT(refusal(""), HasSubstr("no statistics file"));
    EXPECT_THAT(refusal("[1]"), HasSubstr("no statistics file"));
    EXPECT_THAT(with("\"version\": 1", "\"version\": 2"), HasSubstr("another version"));
    EXPECT_THAT(with("fedcba98", "xedcba98"), HasSubstr("damaged"));
    EXPECT_THAT(with("\"tokens\": 3", "\"tokens\": 2"), HasSubstr("damaged"));
    EXPECT_THAT(with("\"scored\"", "\"scores\""), HasSubstr("damaged"));
    EXPECT_THAT(with("1.5,", "-1e999,"), HasSubstr("s.json"));
    EXPECT_THAT(with("\"tokens\": 3", "\"tokens\": 4611686018427387904"), HasSubstr("too large"));
    EXPECT_THAT(with("\"policies\": {", "\"policies\": {\"x\": -1, "), HasSubstr("policies"));
    EXPECT_THAT(with("fedcba9876543210", "-1"), HasSubstr("16 hexadecimal digits"));
    RoutingStatistics fewer = two_layers();
    fewer.layers.pop_back();
    RoutingStatistics all = two_layers();
    EXPECT_THAT([&] { all.merge(fewer, "s.json"); },
                testing::ThrowsMessage<Error>(HasSubstr("layers are not those of the model")));
    for (size_t n = 0; n + 2 < good.size(); ++n) EXPECT_NE(refusal(good.substr(0, n)), "") << n;
}

}  // namespace
}  // namespace muster
