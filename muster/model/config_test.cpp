// SPDX-License-Identifier: Apache-2.0
#include "muster/model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "muster/core/error.h"
#include "muster/model/testing.h"

namespace muster {
namespace {

using ::testing::HasSubstr;
using testing::tiny_muster;
using testing::tiny_olmoe;

std::string message_of(const std::function<void()>& f) {
    try {
        f();
    } catch (const Error& e) {
        return e.what();
    }
    return "";
}

TEST(ModelConfig, JsonKeepsEverything) {
    for (ModelConfig config : {tiny_olmoe(), tiny_muster()}) {
        config.policy = RoutingPolicy::parse("top-p:0.4,max=3");
        config.mean_experts = {1, 2.25, 1.5};
        const std::string text = to_json(config);
        const ModelConfig back = model_config_from_json(text, "here");
        EXPECT_EQ(to_json(back), text);
        EXPECT_EQ(back.layers[1].widths, config.layers[1].widths);
        EXPECT_EQ(back.layers[2].router.weight, config.layers[2].router.weight);
        EXPECT_EQ(back.norm_eps, config.norm_eps);
        EXPECT_EQ(back.policy, config.policy);
    }
}

TEST(ModelConfig, RefusesBadJsonWithTheMembersName) {
    const std::string good = to_json(tiny_olmoe());
    const auto with = [&](const std::string& from, const std::string& to) {
        std::string text = good;
        const size_t at = text.find(from);
        EXPECT_NE(at, std::string::npos) << from;
        text.replace(at, from.size(), to);
        return message_of([&] { model_config_from_json(text, "config.json"); });
    };
    EXPECT_THAT(with("{", "["), HasSubstr("no valid JSON"));
    EXPECT_THAT(with("\"heads\"", "\"hats\""), HasSubstr("\"heads\" is missing"));
    EXPECT_THAT(with("\"heads\": 4", "\"heads\": 4.5"), HasSubstr("\"heads\" is not a whole"));
    EXPECT_THAT(with("\"heads\": 4", "\"heads\": 99999999999"), HasSubstr("\"heads\""));
    EXPECT_THAT(with("\"heads\": 4", "\"heads\": 5"), HasSubstr("multiple of kv_heads"));
    EXPECT_THAT(with("muster-model", "other-model"), HasSubstr("the format is"));
    EXPECT_THAT(with("\"version\": 1", "\"version\": 9"), HasSubstr("version 9"));
    EXPECT_THAT(with("\"silu\"", "\"tanh\""), HasSubstr("tanh"));
    EXPECT_THAT(with("\"neox\"", "\"spiral\""), HasSubstr("expected neox or norm"));
    EXPECT_THAT(with("\"top-k\"", "\"best\""), HasSubstr("best"));
}

TEST(ModelConfig, CheckNamesWhatCannotWork) {
    const auto broken = [](auto change) {
        ModelConfig c = tiny_olmoe();
        change(c);
        return message_of([&] { c.check(); });
    };
    EXPECT_EQ(broken([](ModelConfig&) {}), "");
    EXPECT_THAT(broken([](ModelConfig& c) { c.head_dim = 7; }), HasSubstr("head_dim is 7"));
    EXPECT_THAT(broken([](ModelConfig& c) { c.layers.clear(); }), HasSubstr("number of layers"));
    EXPECT_THAT(broken([](ModelConfig& c) { c.layers[1].widths[2] = 0; }),
                HasSubstr("layer 1: width is 0"));
    EXPECT_THAT(broken([](ModelConfig& c) { c.layers[1].widths.pop_back(); }),
                HasSubstr("the router knows 6 experts"));
    EXPECT_THAT(broken([](ModelConfig& c) { c.layers[0].router.value = 9; }), HasSubstr("9"));
    EXPECT_THAT(broken([](ModelConfig& c) { c.policy = RoutingPolicy::parse("top-k:7"); }),
                HasSubstr("7"));
    EXPECT_THAT(broken([](ModelConfig& c) {
                    c.policy = RoutingPolicy::parse("top-p:0.5");
                    c.layers[2].router.value = 1e300;
                }),
                HasSubstr("1e+300"));
    EXPECT_THAT(broken([](ModelConfig& c) { c.mean_experts = {1}; }), HasSubstr("mean_experts"));
    EXPECT_THAT(broken([](ModelConfig& c) {
                    c.mean_experts = {1, 6, 7};
                }),
                HasSubstr("layer 2: mean_experts"));
    EXPECT_THAT(broken([](ModelConfig& c) {
                    c.mean_experts = {1, NAN, 1};
                }),
                HasSubstr("mean_experts"));
    EXPECT_THAT(broken([](ModelConfig& c) { c.norm_eps = NAN; }), HasSubstr("norm_eps"));
}

TEST(ModelConfig, KnowsWhatOlmoeCannotExpress) {
    EXPECT_EQ(beyond_olmoe(tiny_olmoe()), "");
    const auto changed = [](auto change) {
        ModelConfig c = tiny_olmoe();
        change(c);
        return beyond_olmoe(c);
    };
    EXPECT_EQ(changed([](ModelConfig& c) { c.tied_head = true; }), "");  // written out
    EXPECT_EQ(changed([](ModelConfig& c) {
                  for (auto& l : c.layers) {
                      l.router.selection = Selection::top_p;
                      l.router.value = 0.4;
                  }
              }),
              "");
    EXPECT_THAT(changed([](ModelConfig& c) { c.kv_heads = 2; }), HasSubstr("grouped"));
    EXPECT_THAT(changed([](ModelConfig& c) { c.head_dim = 16; }), HasSubstr("heads"));
    EXPECT_THAT(changed([](ModelConfig& c) { c.rope = RopeLayout::norm; }), HasSubstr("RoPE"));
    EXPECT_THAT(changed([](ModelConfig& c) { c.qk_norm = QkNorm::none; }), HasSubstr("norms"));
    EXPECT_THAT(changed([](ModelConfig& c) { c.gated = false; }), HasSubstr("SwiGLU"));
    EXPECT_THAT(changed([](ModelConfig& c) { c.layers[1].widths = {32}; }), HasSubstr("dense"));
    EXPECT_THAT(changed([](ModelConfig& c) { c.layers[1].widths[1] = 8; }), HasSubstr("unequal"));
    EXPECT_THAT(changed([](ModelConfig& c) { c.layers[1].shared_width = 8; }), HasSubstr("shared"));
    EXPECT_THAT(changed([](ModelConfig& c) { c.layers[1].router.value = 3; }),
                HasSubstr("per layer"));
    EXPECT_THAT(changed([](ModelConfig& c) { c.layers[0].router.weight = Weighting::renorm; }),
                HasSubstr("weights"));
    const auto under = [&](const char* policy) {
        return changed([&](ModelConfig& c) { c.policy = RoutingPolicy::parse(policy); });
    };
    EXPECT_EQ(under("top-p:0.4,max=2"), "");
    EXPECT_THAT(under("top-k:2,weight=renorm"), HasSubstr("weights"));
    EXPECT_THAT(under("top-k:2,score=sigmoid"), HasSubstr("scores"));
    EXPECT_THAT(under("top-k:1,ban=0.1"), HasSubstr("banned"));
}

TEST(ModelConfig, CountsParametersAsTheTensorsDo) {
    for (const ModelConfig& config : {tiny_olmoe(), tiny_muster()}) {
        const testing::Checkpoint checkpoint = testing::random_checkpoint(config);
        int64_t all = 0, fixed = 0;
        for (const auto& [name, t] : checkpoint.tensors) {
            const auto n = static_cast<int64_t>(t.values.size());
            all += n;
            const bool end = name == tensor_names::kEmbedding || name == tensor_names::kHead;
            if (!end && name.find(".experts.") == std::string::npos) fixed += n;
        }
        const ParameterCounts counts = count_parameters(config);
        EXPECT_EQ(counts.total, all);
        EXPECT_EQ(counts.per_token_fixed, fixed);
        EXPECT_EQ(counts.head, config.tied_head ? 0 : counts.embedding);
        EXPECT_DOUBLE_EQ(counts.activated({1, 2, 3}),
                         static_cast<double>(fixed) + counts.per_expert[0] +
                             2 * counts.per_expert[1] + 3 * counts.per_expert[2]);
    }
}

}  // namespace
}  // namespace muster
