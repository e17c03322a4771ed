// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "muster/core/error.h"
#include "muster/routing/testing.h"

namespace muster {
namespace {

using namespace routing_testing;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

RouterSpec olmoe() {
    RouterSpec spec = spec_of(64, Selection::top_k, 8);
    return spec;
}

RouterSpec deepseek() {
    RouterSpec spec = spec_of(16, Selection::top_k, 4);
    spec.score = Score::sigmoid;
    spec.weight = Weighting::renorm;
    spec.scale = 2.5f;
    spec.groups = 4;
    spec.groups_used = 2;
    return spec;
}

TEST(Resolve, ModelMeansTheCheckpoint) {
    const ResolvedRouter r = resolved("model", deepseek());
    EXPECT_EQ(r.spec.selection, Selection::top_k);
    EXPECT_EQ(r.spec.value, 4);
    EXPECT_EQ(r.spec.score, Score::sigmoid);
    EXPECT_EQ(r.spec.weight, Weighting::renorm);
    EXPECT_EQ(r.spec.scale, 2.5f);
    EXPECT_EQ(r.spec.max, 16);
    EXPECT_TRUE(r.shared);
}

TEST(Resolve, ThePolicyReplacesOnlyWhatItNames) {
    const ResolvedRouter r =
        resolved("top-p:0.6,max=8,groups=3,weight=uniform,shared=off", deepseek());
    EXPECT_EQ(r.spec.selection, Selection::top_p);
    EXPECT_EQ(r.p, 0.6);
    EXPECT_EQ(r.spec.max, 8);
    EXPECT_EQ(r.spec.groups_used, 3);
    EXPECT_EQ(r.spec.weight, Weighting::uniform);
    EXPECT_EQ(r.spec.score, Score::sigmoid);
    EXPECT_EQ(r.spec.scale, 2.5f);
    EXPECT_FALSE(r.shared);
    EXPECT_EQ(resolved("model,weight=scale:3", deepseek()).spec.scale, 3);
    EXPECT_EQ(resolved("model,weight=scale:3", deepseek()).spec.weight, Weighting::renorm);
}

TEST(Resolve, ValuesPerLayer) {
    const RoutingPolicy policy = RoutingPolicy::parse("top-k:8/6/4,ban=1.3,ban=2.5,force=1.7");
    const int expected[] = {8, 6, 4};
    for (int layer = 0; layer < 3; ++layer)
        EXPECT_EQ(resolve(policy, olmoe(), layer, 3).spec.value, expected[layer]);
    EXPECT_THAT(resolve(policy, olmoe(), 0, 3).ban, IsEmpty());
    EXPECT_THAT(resolve(policy, olmoe(), 1, 3).ban, ElementsAre(3));
    EXPECT_THAT(resolve(policy, olmoe(), 1, 3).force, ElementsAre(7));
    EXPECT_THAT(resolve(policy, olmoe(), 2, 3).ban, ElementsAre(5));
    EXPECT_THROW(resolve(policy, olmoe(), 0, 4), Error);
}

TEST(Resolve, BoundsOfThePolicyWinOverThoseOfTheCheckpoint) {
    RouterSpec spec = spec_of(16, Selection::top_p, 0.5);
    spec.min = 2;
    spec.max = 6;
    EXPECT_EQ(resolved("model", spec).spec.max, 6);
    EXPECT_EQ(resolved("model,max=1", spec).spec.min, 1);
    EXPECT_EQ(resolved("model,min=8", spec).spec.max, 8);
    EXPECT_EQ(resolved("top-p:0.7", spec).spec.max, 6);
    EXPECT_EQ(resolved("model,max=99", spec).spec.max, 16);
    // A fixed k is the budget itself.
    EXPECT_EQ(resolved("top-k:9", spec).spec.max, 16);
    EXPECT_EQ(resolved("top-k:9,max=3", spec).spec.max, 3);
}

TEST(Resolve, WhatCannotWorkIsRefusedByName) {
    struct Bad {
        const char* policy;
        const char* message;
    };
    const Bad cases[] = {
        {"top-k:17", "top-k 17, expected a whole number from 1 to 16"},
        {"random:17", "random 17"},
        {"top-k:1/2", "policy with 2 values, expected one, or one for each of the 1 layers"},
        {"mean:0.5", "mean 0.5, expected a mean from min to max experts, here 1 to 8"},
        {"mean:5,max=4", "here 1 to 4"},
        {"mean:9", "here 1 to 8"},
        {"mean:16,groups=4,ban=0.0", "here 1 to 15"},
        {"expert-choice:17", "expert-choice 17"},
        {"model,min=17", "min=17, expected at most 16"},
        {"model,groups=5", "groups=5, expected from 1 to 4"},
        {"model,ban=0.16", "ban=0.16, expected an expert below 16"},
        {"model,ban=1.0", "ban=1.0, expected a layer below 1"},
        {"model,force=0.16", "force=0.16, expected an expert below 16"},
        {"model,max=1,force=0.1,force=0.2", "2 experts forced in layer 0, expected at most max"},
    };
    for (const Bad& c : cases) {
        try {
            resolved(c.policy, deepseek());
            ADD_FAILURE() << c.policy;
        } catch (const Error& error) {
            EXPECT_THAT(error.what(), HasSubstr("[routing] ")) << c.policy;
            EXPECT_THAT(error.what(), HasSubstr(c.message)) << c.policy;
        }
    }
    std::string all = "model";
    for (int e = 0; e < 16; ++e) all += ",ban=0." + std::to_string(e);
    EXPECT_THROW(resolved(all.c_str(), deepseek()), Error);
    RoutingPolicy both;
    both.ban = both.force = {{0, 3}};
    EXPECT_THROW(resolve(both, deepseek(), 0, 1), Error);
    EXPECT_THROW(resolve({}, deepseek(), 1, 1), Error);
    EXPECT_THROW(resolve({}, deepseek(), -1, 1), Error);
}

TEST(Resolve, SpecsFromFilesAreChecked) {
    const auto refused = [](auto&& change) {
        RouterSpec spec = deepseek();
        change(spec);
        EXPECT_THROW(resolved("model", spec), Error);
    };
    refused([](RouterSpec& s) { s.num_experts = 0; });
    refused([](RouterSpec& s) { s.groups = 3; });
    refused([](RouterSpec& s) { s.groups_used = 5; });
    refused([](RouterSpec& s) { s.group_top = 0; });
    refused([](RouterSpec& s) { s.value = 2.5; });
    refused([](RouterSpec& s) { s.value = std::nan(""); });
    refused([](RouterSpec& s) { s.scale = std::nanf(""); });
    refused([](RouterSpec& s) { s.renorm_floor = -1; });
    refused([](RouterSpec& s) { s.min = 0; });
    refused([](RouterSpec& s) { s.selection = Selection::model; });
    refused([](RouterSpec& s) { s.selection = Selection::top_p; });  // its value is 4
}

}  // namespace
}  // namespace muster
