// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "muster/routing/testing.h"

// The fourth axis: min, max, ban and force, over every selection that works token by token.
namespace muster {
namespace {

using namespace routing_testing;
using testing::Contains;
using testing::ElementsAre;
using testing::Not;

constexpr const char* kSelections[] = {"top-k:3", "top-p:0.5", "relative:0.4", "threshold",
                                       "hash",    "random:3",  "mean:3"};

struct Setting {
    std::vector<float> thresholds = std::vector<float>(12, 0.15f);
    std::vector<int32_t> table, ids;
    RouterParameters parameters;
    RouteContext context;
    explicit Setting(int tokens) {
        for (int t = 0; t < tokens; ++t) ids.push_back(t % 12);
        for (int id = 0; id < 12; ++id)
            for (int i = 0; i < 3; ++i) table.push_back((id + 5 * i) % 12);
        parameters.thresholds = thresholds;
        parameters.hash_table = table;
        context.token_ids = ids;
    }
};

RouteTable route_with(const std::string& policy, const Logits& logits, int groups = 1) {
    const Setting setting(logits.tokens);
    RouterSpec spec = spec_of(12, Selection::top_k, 3);
    spec.groups = groups;
    spec.groups_used = groups > 1 ? groups / 2 : 1;
    return run(logits, resolved(policy.c_str(), spec), setting.parameters, setting.context).table;
}

TEST(Budget, MinAndMaxHold) {
    const Logits logits = random_logits(300, 12, 3);
    for (const std::string selection : kSelections) {
        for (const int min : {1, 2, 5, 12}) {
            for (const int max : {1, 2, 6, 12}) {
                if (min > max) continue;
                if (selection == "mean:3" && (min > 3 || max < 3)) continue;
                const RouteTable bounded = route_with(
                    selection + ",min=" + std::to_string(min) + ",max=" + std::to_string(max),
                    logits);
                const RouteTable free = route_with(selection, logits);
                for (int t = 0; t < 300; ++t) {
                    const auto got = experts_of(bounded, t), natural = experts_of(free, t);
                    const int count = static_cast<int>(natural.size());
                    ASSERT_EQ(static_cast<int>(got.size()), std::clamp(count, min, max))
                        << selection;
                    if (count >= max) {  // cut from the weak end
                        EXPECT_TRUE(std::equal(got.begin(), got.end(), natural.begin()));
                    }
                    for (int i = 0; count < min && i < count; ++i)  // filled, nothing lost
                        EXPECT_THAT(got, Contains(natural[i]));
                }
            }
        }
    }
}

TEST(Budget, BannedExpertsAreNeverSelected) {
    const Logits logits = random_logits(300, 12, 4);
    for (const std::string selection : kSelections) {
        for (const int groups : {1, 4}) {
            const RouteTable table =
                route_with(selection + ",ban=0.0,ban=0.7,ban=0.8", logits, groups);
            for (int t = 0; t < 300; ++t) {
                EXPECT_GE(table.token_experts(t).size(), 1u);
                for (const int e : {0, 7, 8}) EXPECT_THAT(experts_of(table, t), Not(Contains(e)));
            }
        }
    }
    std::string all_but_5 = "top-k:3";
    for (int e = 0; e < 12; ++e)
        if (e != 5) all_but_5 += ",ban=0." + std::to_string(e);
    const RouteTable table = route_with(all_but_5, logits);
    for (int t = 0; t < 300; ++t) EXPECT_THAT(experts_of(table, t), ElementsAre(5));
}

TEST(Budget, ForcedExpertsAreAlwaysSelectedInTheirPlace) {
    const Logits logits = random_logits(300, 12, 5);
    for (const std::string selection : kSelections) {
        for (const int groups : {1, 4}) {
            const RouteTable free = route_with(selection, logits, groups);
            const RouteTable forced =
                route_with(selection + ",force=0.2,force=0.9", logits, groups);
            const bool held = selection.starts_with("mean") || selection.starts_with("speed");
            const bool fixed =
                selection == "top-k:3" || selection == "random:3" || selection == "hash" || held;
            for (int t = 0; t < 300; ++t) {
                const auto got = experts_of(forced, t), natural = experts_of(free, t);
                EXPECT_THAT(got, Contains(2));
                EXPECT_THAT(got, Contains(9));
                // Groups cut hashed sets, and experts of others add to the mass.
                if (fixed && (groups == 1 || (selection != "hash" && !held))) {
                    EXPECT_EQ(got.size(), std::max<size_t>(natural.size(), 2));
                }
                // Adding loses nobody; replacing loses only the weakest. (Forced experts of other
                // groups are candidates again, which may change the rest.)
                if (groups > 1) continue;
                const size_t kept =
                    fixed ? natural.size() - std::min<size_t>(2, natural.size()) : natural.size();
                for (size_t i = 0; i < kept; ++i) EXPECT_THAT(got, Contains(natural[i]));
            }
        }
    }
}

TEST(Budget, ForcedExpertsOfOtherGroupsKeepTheirRank) {
    const Logits logits{1, 6, {5, 1, 2, 4, -3, -3}};  // the first group is the best
    RouterSpec spec = spec_of(6);
    spec.groups = 2;
    const auto chosen = [&](const char* policy) {
        return experts_of(run(logits, resolved(policy, spec)).table, 0);
    };
    EXPECT_THAT(chosen("top-k:3"), ElementsAre(0, 2, 1));
    EXPECT_THAT(chosen("top-k:3,force=0.3"), ElementsAre(0, 3, 2));
    EXPECT_THAT(chosen("top-k:3,force=0.5"), ElementsAre(0, 2, 5));
}

TEST(Budget, ForceReplacesTheWeakestAndKeepsTheOrder) {
    const Logits logits{1, 5, {5, 4, 3, 2, 1}};
    const auto chosen = [&](const char* policy) {
        return experts_of(run(logits, resolved(policy, spec_of(5))).table, 0);
    };
    EXPECT_THAT(chosen("top-k:3,force=0.4"), ElementsAre(0, 1, 4));
    EXPECT_THAT(chosen("top-k:3,force=0.4,force=0.2"), ElementsAre(0, 2, 4));
    EXPECT_THAT(chosen("top-k:3,force=0.0"), ElementsAre(0, 1, 2));
    EXPECT_THAT(chosen("top-k:1,force=0.4,force=0.3"), ElementsAre(3, 4));
    EXPECT_THAT(chosen("relative:1,force=0.3"), ElementsAre(0, 3));
    EXPECT_THAT(chosen("relative:0.3,max=2,force=0.4"), ElementsAre(0, 4));
    EXPECT_THAT(chosen("top-k:2,ban=0.0,force=0.4"), ElementsAre(1, 4));
}

}  // namespace
}  // namespace muster
