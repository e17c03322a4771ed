// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/router.h"

#include <gmock/gmock.h>

#include <limits>
#include <set>

#include "muster/core/error.h"
#include "muster/routing/testing.h"

namespace muster {
namespace {

using namespace routing_testing;
using testing::HasSubstr;

constexpr const char* kPolicies[] = {
    "model",           "top-k:1",
    "top-k:3",         "top-k:3,weight=renorm",
    "top-p:0.4",       "top-p:0.9,max=3,weight=softmax",
    "relative:0.2",    "relative:0.5,min=2,weight=uniform",
    "random:2",        "mean:2",
    "top-p:1",         "top-k:2,score=sigmoid,weight=renorm,weight=scale:2.5",
    "top-k:2,ban=0.1", "top-p:0.5,force=0.2,score=sqrt-softplus"};

void expect_valid(const RouteTable& table, int tokens, int experts) {
    ASSERT_EQ(table.tokens(), tokens);
    EXPECT_EQ(table.num_experts, experts);
    ASSERT_EQ(table.offsets.front(), 0);
    ASSERT_EQ(table.offsets.back(), table.activations());
    ASSERT_EQ(table.weights.size(), table.experts.size());
    for (int t = 0; t < tokens; ++t) {
        ASSERT_LE(table.offsets[t], table.offsets[t + 1]);
        const auto chosen = table.token_experts(t);
        EXPECT_EQ(std::set<int>(chosen.begin(), chosen.end()).size(), chosen.size());
        for (const int e : chosen) EXPECT_TRUE(e >= 0 && e < experts);
    }
    for (const float w : table.weights) EXPECT_TRUE(std::isfinite(w) && w >= 0);
}

TEST(Route, TablesAreValid) {
    for (const char* policy : kPolicies)
        for (const int experts : {4, 5, 16, 64, 300})
            for (const int tokens : {0, 1, 7, 65})
                expect_valid(run(random_logits(tokens, experts, experts + tokens, experts == 16),
                                 resolved(policy, spec_of(experts)))
                                 .table,
                             tokens, experts);
}

TEST(Route, OneExpertTakesEverything) {
    for (const char* policy : {"top-k:1", "top-p:0.3", "top-p:1", "relative:0.5", "random:1",
                               "mean:1", "expert-choice:1"}) {
        const RouteTable table = run(random_logits(3, 1, 1), resolved(policy, spec_of(1))).table;
        EXPECT_THAT(table.offsets, testing::ElementsAre(0, 1, 2, 3)) << policy;
        EXPECT_THAT(table.weights, testing::Each(1.0f)) << policy;
    }
}

TEST(Route, NoTokensGiveAnEmptyTable) {
    for (const char* policy : {"top-k:2", "top-p:0.5", "expert-choice:2", "random:2"})
        expect_valid(run({0, 4, {}}, resolved(policy, spec_of(4))).table, 0, 4);
}

TEST(Route, FollowsAPermutationOfTheExpertsToTheLastBit) {
    Random random(21);
    for (const std::string policy : {"top-k:3", "top-k:9,weight=renorm", "top-p:0.5", "top-p:0.95",
                                     "relative:0.1", "top-p:0.7,score=sigmoid,weight=softmax"}) {
        for (const int experts : {9, 16, 64, 301}) {
            const Logits logits = random_logits(40, experts, experts);
            std::vector<int> to(experts);
            std::iota(to.begin(), to.end(), 0);
            std::shuffle(to.begin(), to.end(), random);
            Logits moved = logits;
            for (int t = 0; t < 40; ++t)
                for (int e = 0; e < experts; ++e)
                    moved.data[t * experts + to[e]] = logits.data[t * experts + e];
            const ResolvedRouter router = resolved(policy.c_str(), spec_of(experts));
            RouteTable expected = run(logits, router).table;
            for (int32_t& e : expected.experts) e = to[e];
            const RouteTable got = run(moved, router).table;
            EXPECT_EQ(got.offsets, expected.offsets) << policy;
            EXPECT_EQ(got.experts, expected.experts) << policy;
            EXPECT_EQ(got.weights, expected.weights) << policy;
        }
    }
}

TEST(Route, TiesGoToTheLowerIndex) {
    const Logits logits{1, 6, {1, 2, 2, 1, 2, 1}};
    for (const char* policy : {"top-k:5", "top-p:0.99,max=5", "relative:0,max=5"})
        EXPECT_THAT(experts_of(run(logits, resolved(policy, spec_of(6))).table, 0),
                    testing::ElementsAre(1, 2, 4, 0, 3));
}

TEST(Route, RejectsLogitsThatAreNotFiniteByTokenAndExpert) {
    const float infinity = std::numeric_limits<float>::infinity();
    for (const float bad : {std::nanf(""), infinity, -infinity}) {
        for (const char* policy : {"top-k:2", "top-p:0.5", "random:2", "expert-choice:2"}) {
            for (const int e : {0, 4, 6}) {
                Logits logits = random_logits(5, 7, 1);
                logits.data[3 * 7 + e] = bad;
                try {
                    run(logits, resolved(policy, spec_of(7)));
                    ADD_FAILURE() << policy;
                } catch (const Error& error) {
                    EXPECT_THAT(error.what(), HasSubstr("[routing] "));
                    EXPECT_THAT(error.what(),
                                HasSubstr("token 3, expert " + std::to_string(e) + " is " +
                                          (std::isnan(bad) ? "NaN" : "infinite")));
                }
            }
        }
    }
}

TEST(Route, RejectsParametersAndContextThatDoNotFit) {
    const Logits logits = random_logits(3, 4, 1);
    EXPECT_THROW(run(logits, resolved("model", spec_of(5))), Error);
    RouterParameters parameters;
    const std::vector<float> three(3), bad{0, 0, std::nanf(""), 0};
    parameters.selection_bias = three;
    EXPECT_THROW(run(logits, resolved("model", spec_of(4)), parameters), Error);
    parameters.selection_bias = bad;
    EXPECT_THROW(run(logits, resolved("model", spec_of(4)), parameters), Error);
    RouteContext context;
    const std::vector<int64_t> two(2);
    context.positions = two;
    EXPECT_THROW(run(logits, resolved("random:1", spec_of(4)), {}, context), Error);
}

TEST(Route, StridedLogitsAndReusedMemoryChangeNothing) {
    RouteScratch scratch;
    RouteTable table;
    for (const int experts : {64, 5, 200, 16}) {
        const Logits logits = random_logits(20, experts, experts);
        std::vector<float> wide(20 * (experts + 3), std::nanf(""));
        for (int t = 0; t < 20; ++t)
            std::copy_n(logits.row(t).data(), experts, wide.data() + t * (experts + 3));
        const ResolvedRouter router = resolved("top-p:0.6", spec_of(experts));
        route({wide.data(), 20, experts, experts + 3}, router, {}, {}, scratch, table);
        const RouteTable expected = run(logits, router).table;
        EXPECT_EQ(table.experts, expected.experts);
        EXPECT_EQ(table.weights, expected.weights);
        EXPECT_EQ(table.offsets, expected.offsets);
    }
}

TEST(Route, AllocatesNothingOnceWarm) {
    const Logits logits = random_logits(50, 64, 1);
    const std::vector<int64_t> positions(50);
    RouteContext context;
    context.positions = positions;
    for (const char* policy : {"top-k:8", "top-p:0.8", "relative:0.1,ban=0.3", "expert-choice:4"}) {
        const ResolvedRouter router = resolved(policy, spec_of(64));
        RouteScratch scratch;
        RouteTable table;
        route(logits.view(), router, {}, context, scratch, table);
        const void* before[] = {scratch.scores.data(), scratch.work.data(),  scratch.order.data(),
                                table.offsets.data(),  table.experts.data(), table.weights.data()};
        route(logits.view(), router, {}, context, scratch, table);
        const void* after[] = {scratch.scores.data(), scratch.work.data(),  scratch.order.data(),
                               table.offsets.data(),  table.experts.data(), table.weights.data()};
        EXPECT_TRUE(std::equal(std::begin(before), std::end(before), after)) << policy;
    }
}

TEST(RouteRows, EqualsRouteRowByRow) {
    const Logits logits = random_logits(60, 16, 6, true);
    std::vector<ResolvedRouter> routers;
    for (const char* policy : kPolicies) routers.push_back(resolved(policy, spec_of(16)));
    std::vector<const ResolvedRouter*> by_token;
    std::vector<int64_t> positions;
    for (int t = 0; t < 60; ++t) {
        by_token.push_back(&routers[(t * t) % routers.size()]);
        positions.push_back(100 + 3 * t);
    }
    RouteContext context;
    context.positions = positions;
    context.layer = 3;
    RouteScratch scratch;
    RouteTable rows;
    route_rows(logits.view(), by_token, {}, context, scratch, rows);
    expect_valid(rows, 60, 16);
    for (int t = 0; t < 60; ++t) {
        context.positions = std::span(positions).subspan(t, 1);
        RouteTable one;
        RouteScratch fresh;
        route(logits.view().slice(t, 1), *by_token[t], {}, context, fresh, one);
        EXPECT_EQ(experts_of(rows, t), experts_of(one, 0));
        EXPECT_TRUE(
            std::equal(one.weights.begin(), one.weights.end(), rows.token_weights(t).begin()));
        for (int e = 0; e < 16; ++e) EXPECT_EQ(scratch.scores[t * 16 + e], fresh.scores[e]);
    }
}

TEST(RouteRows, RefusesWholeBatchSelectionsAndMissingRouters) {
    const Logits logits = random_logits(2, 4, 1);
    const ResolvedRouter batch = resolved("expert-choice:2", spec_of(4));
    const ResolvedRouter plain = resolved("top-k:2", spec_of(4));
    RouteScratch scratch;
    RouteTable table;
    const std::vector<const ResolvedRouter*> mixed{&plain, &batch}, one{&plain};
    EXPECT_THROW(route_rows(logits.view(), mixed, {}, {}, scratch, table), Error);
    EXPECT_THROW(route_rows(logits.view(), one, {}, {}, scratch, table), Error);
}

}  // namespace
}  // namespace muster
