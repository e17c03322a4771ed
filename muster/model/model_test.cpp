// SPDX-License-Identifier: Apache-2.0
#include "muster/model/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "muster/checkpoint/gguf.h"
#include "muster/core/error.h"
#include "muster/model/arch/architecture.h"
#include "muster/model/export.h"
#include "muster/model/summary.h"
#include "muster/model/testing.h"

namespace muster {
namespace {

using ::testing::AllOf;
using testing::Checkpoint;
using ::testing::HasSubstr;
using testing::random_checkpoint;
using testing::TemporaryDirectory;
using testing::tiny_muster;
using testing::tiny_olmoe;

/// A good file of which tests write changed copies.
class BadModel : public ::testing::Test {
  protected:
    void make(const ModelConfig& config) {
        random_checkpoint(config).write(directory_ / "run");
        export_gguf(directory_ / "run", directory_ / "good.gguf", DType::f32);
        good_ = std::make_unique<GgufFile>(directory_ / "good.gguf");
    }
    struct Change {
        std::string drop_key = {}, drop_tensor = {};
        std::function<void(GgufWriter&)> set = {};
        std::function<void(const std::string&, TensorView&)> edit = {};
        std::string architecture = {};                         ///< instead of olmoe
        std::map<std::string, std::vector<int64_t>> add = {};  ///< tensors of ones, f32
    };
    /// Loads a changed copy; the message of the refusal, or nothing.
    std::string refusal(const Change& change) {
        GgufWriter writer;
        copy_metadata(writer, change);
        if (change.set) change.set(writer);
        for (const auto& [name, tensor] : good_->tensors()) {
            if (name == change.drop_tensor) continue;
            TensorView view = tensor;
            if (change.edit) change.edit(name, view);
            writer.add_tensor(name, view);
        }
        const std::vector<float> ones(1 << 14, 1.0f);
        for (const auto& [name, shape] : change.add)
            writer.add_tensor(name,
                              {DType::f32, shape, reinterpret_cast<const std::byte*>(ones.data())});
        writer.write(directory_ / "bad.gguf");
        try {
            Model::load(directory_ / "bad.gguf");
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    }
    void copy_metadata(GgufWriter& writer, const Change& change) const {
        for (const auto& [old_key, value] : good_->metadata()) {
            std::string key = old_key;
            if (key == change.drop_key) continue;
            if (!change.architecture.empty()) {
                if (key == "general.architecture") {
                    writer.set_string(key, change.architecture);
                    continue;
                }
                if (key.starts_with("olmoe.")) key.replace(0, 5, change.architecture);
            }
            if (const auto* u = std::get_if<uint64_t>(&value)) writer.set_u32(key, *u);
            if (const auto* i = std::get_if<int64_t>(&value)) writer.set_u32(key, *i);
            if (const auto* d = std::get_if<double>(&value)) writer.set_f32(key, *d);
            if (const auto* b = std::get_if<bool>(&value)) writer.set_bool(key, *b);
            if (const auto* s = std::get_if<std::string>(&value)) writer.set_string(key, *s);
            if (const auto* a = std::get_if<MetadataArray>(&value)) copy_array(writer, key, *a);
        }
    }
    static void copy_array(GgufWriter& writer, const std::string& key, const MetadataArray& array) {
        if (const auto* s = std::get_if<std::vector<std::string>>(&array))
            writer.set_strings(key, *s);
        if (const auto* d = std::get_if<std::vector<double>>(&array))
            writer.set_f32s(key, {d->begin(), d->end()});
        if (const auto* i = std::get_if<std::vector<int64_t>>(&array))
            writer.set_i32s(key, {i->begin(), i->end()});
        if (const auto* u = std::get_if<std::vector<uint64_t>>(&array))
            writer.set_i32s(key, {u->begin(), u->end()});
    }

    Model changed() const { return Model::load(directory_ / "bad.gguf"); }

    TemporaryDirectory directory_;
    std::unique_ptr<GgufFile> good_;
};

TEST_F(BadModel, GoodCopiesLoad) {
    for (const ModelConfig& config : {tiny_olmoe(), tiny_muster()}) {
        make(config);
        EXPECT_EQ(refusal({}), "");
    }
}

TEST_F(BadModel, MissingKeysAreNamed) {
    for (const ModelConfig& config : {tiny_olmoe(), tiny_muster()}) {
        make(config);
        int required = 0;
        for (const auto& [key, value] : good_->metadata()) {
            const std::string message = refusal({.drop_key = key});
            if (message.empty()) continue;
            ++required;
            EXPECT_THAT(message, HasSubstr(key));
        }
        EXPECT_GE(required, 10);
    }
}

TEST_F(BadModel, HeadsAreMultipliedIn64Bits) {
    make(tiny_olmoe());
    // 24624 * 174422 is 2^32 + 32, the width.
    EXPECT_THAT(refusal({.set =
                             [](GgufWriter& w) {
                                 w.set_u32("olmoe.attention.head_count", 24624);
                                 w.set_u32("olmoe.attention.head_count_kv", 24624);
                                 w.set_u32("olmoe.attention.key_length", 174422);
                                 w.set_u32("olmoe.attention.value_length", 174422);
                                 w.set_u32("olmoe.rope.dimension_count", 174422);
                             }}),
                HasSubstr("expected equal heads that divide the width"));
}

TEST(Keys, RealNumbersHave32Bits) {
    WeightMap file("test");
    file.set("a.half", 0.5);
    file.set("a.huge", 1e300);
    const Keys keys(file, "a");
    EXPECT_EQ(keys.real("half"), 0.5f);
    EXPECT_THROW(keys.real_or("huge", 1), Error);
}

TEST_F(BadModel, MissingTensorsAreNamed) {
    for (const ModelConfig& config : {tiny_olmoe(), tiny_muster()}) {
        make(config);
        for (const auto& [name, tensor] : good_->tensors())
            EXPECT_THAT(refusal({.drop_tensor = name}), HasSubstr(name));
    }
}

TEST_F(BadModel, WrongShapesAreNamed) {
    make(tiny_olmoe());
    for (const auto& [name, tensor] : good_->tensors()) {
        const auto shrink = [&, wanted = name](const std::string& n, TensorView& view) {
            if (n == wanted) --view.shape[0];
        };
        EXPECT_THAT(refusal({.edit = shrink}), HasSubstr(name));
    }
}

TEST_F(BadModel, NonFiniteWeightsAreNamed) {
    make(tiny_muster());
    for (const float bad : {NAN, INFINITY}) {
        for (const auto& [name, tensor] : good_->tensors()) {
            std::vector<float> values(tensor.elements());
            std::memcpy(values.data(), tensor.data, tensor.bytes());
            values[values.size() / 2] = bad;
            const auto poison = [&, wanted = name](const std::string& n, TensorView& view) {
                if (n == wanted) view.data = reinterpret_cast<const std::byte*>(values.data());
            };
            EXPECT_THAT(refusal({.edit = poison}), AllOf(HasSubstr(name), HasSubstr("NaN")));
        }
    }
}

TEST_F(BadModel, OtherArchitecturesAndVocabulariesAreRefused) {
    make(tiny_olmoe());
    const auto set = [&](auto f) { return refusal({.set = f}); };
    EXPECT_THAT(set([](GgufWriter& w) { w.set_string("general.architecture", "gpt2"); }),
                AllOf(HasSubstr("\"gpt2\""), HasSubstr("olmoe, muster")));
    EXPECT_THAT(set([](GgufWriter& w) { w.set_u32("olmoe.attention.head_count_kv", 2); }),
                HasSubstr("heads"));
    EXPECT_THAT(set([](GgufWriter& w) { w.set_u32("olmoe.expert_used_count", 7); }),
                HasSubstr("olmoe.expert_used_count"));
    EXPECT_THAT(set([](GgufWriter& w) { w.set_string("muster.routing.policy", "top-q:3"); }),
                HasSubstr("top-q"));
    EXPECT_THAT(set([](GgufWriter& w) { w.set_string("muster.routing.policy", "top-k:99"); }),
                HasSubstr("99"));
    Vocabulary small = testing::tiny_vocabulary();
    small.pieces.pop_back();
    small.scores.pop_back();
    small.types.pop_back();
    EXPECT_THAT(set([&](GgufWriter& w) { write_vocabulary(small, w); }),
                AllOf(HasSubstr("token_embd.weight"), HasSubstr("vocabulary")));
}

/// A model without q/k norms, as `llama` has none.
ModelConfig tiny_mixtral() {
    ModelConfig c = tiny_olmoe();
    c.architecture = "muster";
    c.qk_norm = QkNorm::none;
    return c;
}

/// What `llama` asks for beside what `muster` says.
void set_mixtral(GgufWriter& w) {
    w.set_u32("llama.block_count", 3);
    w.set_u32("llama.context_length", 48);
    w.set_u32("llama.embedding_length", 32);
    w.set_u32("llama.attention.head_count", 4);
    w.set_f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    w.set_u32("llama.feed_forward_length", 32);
    w.set_u32("llama.expert_count", 6);
    w.set_u32("llama.expert_used_count", 2);
}

TEST_F(BadModel, TensorsThatNoLayerComputesWithAreNamed) {
    const std::map<std::string, std::vector<int64_t>> of_all{{"blk.0.ffn_gate_inp.bias", {6}},
                                                             {"blk.1.ffn_up_exps.bias", {6, 32}},
                                                             {"blk.2.ffn_up_shexp.weight", {8, 32}},
                                                             {"blk.0.ffn_gate.bias", {32}},
                                                             {"blk.0.attn_sinks.weight", {4}},
                                                             {"blk.3.attn_norm.weight", {32}},
                                                             {"blk.2.nextn.enorm.weight", {32}},
                                                             {"rope_factors_short.weight", {4}},
                                                             {"some.other", {32}}};
    const auto check = [&](std::string_view architecture, const Change& base,
                           const std::map<std::string, std::vector<int64_t>>& tensors) {
        EXPECT_EQ(refusal(base), "");
        for (const auto& [name, shape] : tensors) {
            Change change = base;
            change.add = {{name, shape}};
            EXPECT_THAT(refusal(change),
                        HasSubstr("tensor '" + name + "' is not known in architecture " +
                                  std::string(architecture)));
        }
    };
    make(tiny_olmoe());
    check("olmoe", {}, of_all);
    check("olmoe", {}, {{"blk.1.exp_probs_b.bias", {6}}});
    make(tiny_mixtral());
    check("muster", {}, of_all);
    check("muster", {}, {{"blk.1.attn_q.bias", {32}}, {"blk.1.attn_q_norm.weight", {8}}});
    const Change mixtral{.set = set_mixtral, .architecture = "llama"};
    check("llama", mixtral, of_all);
    check("llama", mixtral, {{"blk.0.attn_q_norm.weight", {8}}, {"blk.1.exp_probs_b.bias", {6}}});
}

TEST_F(BadModel, EveryBiasOfTheAttentionCountsForItself) {
    make(tiny_mixtral());
    ASSERT_EQ(refusal({.set = set_mixtral,
                       .architecture = "llama",
                       .add = {{"blk.1.attn_k.bias", {32}}, {"blk.2.attn_output.bias", {32}}}}),
              "");
    const Model model = changed();
    EXPECT_TRUE(model.config().qkv_bias);
    EXPECT_TRUE(model.config().output_bias);
    for (int l = 0; l < 3; ++l) {
        const LayerWeights& w = model.weights().layers[l];
        EXPECT_TRUE(w.query_bias.empty() && w.value_bias.empty());
        EXPECT_EQ(w.key_bias.size(), l == 1 ? 32u : 0u);
        EXPECT_EQ(w.output_bias.size(), l == 2 ? 32u : 0u);
    }
}

TEST_F(BadModel, OlmoeScalesPositionsAsOthersDo) {
    make(tiny_olmoe());
    ASSERT_EQ(refusal({.set =
                           [](GgufWriter& w) {
                               w.set_string("olmoe.rope.scaling.type", "yarn");
                               w.set_f32("olmoe.rope.scaling.factor", 4);
                               w.set_u32("olmoe.rope.scaling.original_context_length", 12);
                           }}),
              "");
    const RopeScaling yarn = changed().config().rope_scaling;
    EXPECT_EQ(yarn.factor, 4);
    EXPECT_EQ(yarn.original_context, 12);
    EXPECT_EQ(yarn.extrapolation, 1);
    ASSERT_EQ(refusal({.set =
                           [](GgufWriter& w) {
                               w.set_string("olmoe.rope.scaling.type", "linear");
                               w.set_f32("olmoe.rope.scale_linear", 2);
                           }}),
              "");
    EXPECT_EQ(changed().config().rope_scaling.factor, 2);
    ASSERT_EQ(refusal({.add = {{"rope_freqs.weight", {4}}}}), "");
    EXPECT_EQ(changed().weights().rope_factors.size(), 4u);
    EXPECT_THAT(
        refusal(
            {.set = [](GgufWriter& w) { w.set_string("olmoe.rope.scaling.type", "longrope"); }}),
        AllOf(HasSubstr("olmoe.rope.scaling.type"), HasSubstr("longrope")));
}

TEST(Model, HashTellsModelsApart) {
    const TemporaryDirectory directory;
    const auto hash = [&](const Checkpoint& checkpoint) {
        checkpoint.write(directory / "run");
        export_gguf(directory / "run", directory / "model.gguf", DType::f32);
        return Model::load(directory / "model.gguf", {.check_values = false}).hash();
    };
    const Checkpoint checkpoint = random_checkpoint(tiny_olmoe());
    const uint64_t first = hash(checkpoint);
    EXPECT_EQ(hash(checkpoint), first);
    EXPECT_NE(hash(random_checkpoint(tiny_olmoe(), 2)), first);
    Checkpoint other = checkpoint;
    other.config.policy = RoutingPolicy::parse("top-k:1");
    EXPECT_NE(hash(other), first);
}

TEST(Model, SummaryCountsWhatTheFileHolds) {
    const TemporaryDirectory directory;
    random_checkpoint(tiny_olmoe()).write(directory / "run");
    export_gguf(directory / "run", directory / "model.gguf", DType::f16);
    const Model model = Model::load(directory / "model.gguf");
    const ModelSummary s = summarize(model);
    EXPECT_EQ(s.tensors.size(), model.file().tensors().size());
    EXPECT_EQ(s.routed, (std::vector<double>{2, 2, 2}));
    EXPECT_EQ(s.expert_bytes, 3 * 6 * 3 * 32 * 32 * 2);
    EXPECT_DOUBLE_EQ(s.activated, s.parameters.activated({2, 2, 2}));
    EXPECT_EQ(s.kv_bytes, 2 * 3 * 48 * 32 * 4);
    EXPECT_THAT(to_json(s), HasSubstr("\"activated_parameters\""));
}

}  // namespace
}  // namespace muster
