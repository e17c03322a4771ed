// SPDX-License-Identifier: Apache-2.0
// Files of families whose metadata or tensors say what cannot be: every refusal is one sentence
// that names the key or tensor.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "muster/checkpoint/gguf.h"
#include "muster/core/error.h"
#include "muster/core/test_directory.h"
#include "muster/model/memory.h"
#include "muster/model/model.h"
#include "tools/make_checkpoint/gguf_output.h"

namespace muster::checkpoints {
namespace {

using ::testing::HasSubstr;

using Set = std::function<void(GgufWriter&, const std::string& key)>;

Set u32(uint32_t value) {
    return [value](GgufWriter& w, const std::string& key) { w.set_u32(key, value); };
}
Set f32(float value) {
    return [value](GgufWriter& w, const std::string& key) { w.set_f32(key, value); };
}
Set text(const char* value) {
    return [value](GgufWriter& w, const std::string& key) { w.set_string(key, value); };
}

struct BadKey {
    const char* key;  ///< without the architecture's prefix
    Set set;          ///< empty: the key is dropped
};

class Refusals : public ::testing::Test {
  protected:
    void make(const char* name) {
        CheckpointSpec spec = preset(name);
        spec.layers = 2;
        spec.vocab = 300;
        const GgufFile source(MUSTER_SOURCE_DIR "/models/default.gguf");
        write_gguf(spec, Tokenizer::from_gguf(source).vocabulary(),
                   {parse_file_type("q8_0"), true, 0}, directory_ / "good.gguf");
        good_ = std::make_unique<GgufFile>(directory_ / "good.gguf");
        prefix_ = std::string(architecture(spec.family)) + ".";
    }
    /// The message of the refusal, or nothing.
    std::string refusal(const std::string& key, const Set& set,
                        const std::string& without_tensor = "") {
        GgufWriter writer;
        for (const auto& [name, value] : good_->metadata())
            if (name != key || set) writer.copy(*good_, name);
        if (set) set(writer, key);
        for (const auto& [name, tensor] : good_->tensors())
            if (name != without_tensor) writer.add_tensor(name, tensor);
        writer.write(directory_ / "bad.gguf");
        try {
            Model::load(directory_ / "bad.gguf", {.check_values = false});
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    }
    void refuses(const std::vector<BadKey>& cases) {
        for (const BadKey& bad : cases) {
            const std::string key = prefix_ + bad.key;
            EXPECT_THAT(refusal(key, bad.set), HasSubstr(key));
        }
    }
    void refuses_missing_tensors() {
        for (const auto& [name, tensor] : good_->tensors()) {
            // What stands in their place is another layout or a model without them.
            const bool optional = name == "output.weight" || name.ends_with("exp_probs_b.bias");
            const std::string message = refusal("general.name", text("x"), name);
            if (optional)
                EXPECT_EQ(message, "");
            else
                EXPECT_THAT(message, HasSubstr(name));
        }
    }

    /// The message about a file that has an f32 tensor more.
    std::string refusal_with(const std::string& tensor, const std::vector<int64_t>& shape) {
        size_t values = 1;
        for (const int64_t n : shape) values *= static_cast<size_t>(n);
        const std::vector<float> zeros(values);
        return refusal("muster.test", [&](GgufWriter& w, const std::string&) {
            w.add_tensor(tensor,
                         {DType::f32, shape, reinterpret_cast<const std::byte*>(zeros.data())});
        });
    }

    TemporaryDirectory directory_;
    std::unique_ptr<GgufFile> good_;
    std::string prefix_;
};

// Of all decoders that read_frame() and read_experts() read.
const std::vector<BadKey> kCommon{
    {"block_count", u32(0)},
    {"block_count", u32(2000)},
    {"block_count", {}},
    {"context_length", u32(0)},
    {"embedding_length", u32(0xffffffff)},
    {"attention.head_count", u32(0)},
    {"attention.head_count", text("four")},
    {"attention.layer_norm_rms_epsilon", {}},
    {"attention.layer_norm_rms_epsilon", f32(-1)},
    {"rope.freq_base", f32(0)},
    {"rope.scaling.type", text("longrope")},
    {"rope.scaling.factor", f32(-8)},
    {"rope.scaling.attn_factor", f32(-1)},
    {"rope.scaling.original_context_length", u32(0)},
    {"rope.scaling.yarn_ext_factor", f32(2)},
    {"rope.scaling.yarn_beta_fast", f32(0)},
    {"rope.scaling.yarn_beta_slow", f32(-1)},
    {"expert_count", u32(1)},
    {"expert_count", u32(100000)},
    {"expert_used_count", u32(0)},
    {"expert_used_count", u32(17)},
    {"expert_used_count", {}},
    {"expert_feed_forward_length", u32(0)},
    {"expert_feed_forward_length", {}},
};

TEST_F(Refusals, GptOss) {
    make("tiny-gpt-oss");
    ASSERT_EQ(refusal("general.name", text("x")), "");
    refuses(kCommon);
    refuses({
        {"attention.head_count_kv", u32(3)},
        {"attention.key_length", u32(63)},
        {"attention.value_length", u32(32)},
        {"rope.dimension_count", u32(128)},
        {"rope.dimension_count", u32(31)},
        {"attention.sliding_window", {}},
        {"attention.sliding_window", u32(0xffffffff)},
        {"attention.sliding_window_pattern", u32(0)},
    });
    refuses_missing_tensors();
}

TEST_F(Refusals, DeepSeek2) {
    make("tiny-deepseek2");
    ASSERT_EQ(refusal("general.name", text("x")), "");
    refuses(kCommon);
    refuses({
        {"attention.kv_lora_rank", u32(0)},
        {"attention.kv_lora_rank", {}},
        {"attention.q_lora_rank", u32(0)},
        {"attention.key_length_mla", u32(32)},  // all of it would be turned
        {"attention.key_length_mla", u32(0xffffffff)},
        {"attention.value_length_mla", u32(0)},
        {"rope.dimension_count", u32(96)},
        {"rope.dimension_count", u32(33)},
        {"rope.dimension_count", {}},
        {"attention.temperature_scale", f32(0.1f)},
        {"rope.scaling.yarn_log_multiplier", f32(-3)},
        {"leading_dense_block_count", u32(3)},
        {"feed_forward_length", {}},
        {"expert_gating_func", u32(5)},
        {"expert_weights_norm", text("yes")},
        {"expert_group_count", u32(5)},
        {"expert_group_count", u32(17)},
        {"expert_group_used_count", u32(0)},
        {"expert_group_used_count", u32(5)},
        {"expert_group_used_count", {}},
        {"expert_shared_count", u32(0xffffffff)},
    });
    refuses_missing_tensors();
}

TEST_F(Refusals, DeepSeek2WithWholeKeysAndValues) {
    make("tiny-deepseek2-old");
    ASSERT_EQ(refusal("general.name", text("x")), "");
    refuses({
        {"attention.key_length", u32(32)},
        {"attention.value_length", u32(0)},
    });
    refuses_missing_tensors();
}

TEST_F(Refusals, TensorsThatNoLayerComputesWith) {
    for (const char* name : {"tiny-olmoe", "tiny-qwen2moe", "tiny-qwen3moe", "tiny-mixtral",
                             "tiny-llama", "tiny-granitemoe", "tiny-gpt-oss", "tiny-deepseek2"}) {
        make(name);
        ASSERT_EQ(refusal("general.name", text("x")), "");
        for (const char* tensor : {"blk.0.ffn_gate.bias", "blk.1.ffn_up_shexp.bias",
                                   "blk.2.attn_norm.weight", "blk.1.nextn.enorm.weight"})
            EXPECT_THAT(refusal_with(tensor, {16}), HasSubstr(tensor)) << name;
    }
}

TEST_F(Refusals, BothLayoutsOfDeepSeeksKeysAndValuesMayStandInAFile) {
    make("tiny-deepseek2");
    const TensorView& keys = good_->tensors().at("blk.0.attn_k_b.weight");
    const TensorView& values = good_->tensors().at("blk.0.attn_v_b.weight");
    const int64_t rows = keys.shape[0] * (keys.shape[2] + values.shape[1]);
    EXPECT_EQ(refusal_with("blk.0.attn_kv_b.weight", {rows, keys.shape[1]}), "");
}

TEST_F(Refusals, TransposedKeysAreForeseenBeforeTheyAreMade) {
    make("tiny-deepseek2-old");
    ASSERT_EQ(refusal("general.name", text("x")), "");
    int64_t foreseen = 0, taken = 0;
    const Model model = Model::load(directory_ / "bad.gguf", {.foresee = [&](const Model& m) {
                                        foreseen = memory_need(m, {}).workspace;
                                        for (const LayerWeights& l : m.weights().layers)
                                            EXPECT_EQ(l.latent.transposed_keys.capacity(), 0U);
                                        return false;
                                    }});
    EXPECT_EQ(memory_need(model, {}).workspace, foreseen);
    for (const LayerWeights& l : model.weights().layers)
        taken += static_cast<int64_t>(l.latent.transposed_keys.capacity() * sizeof(float));
    EXPECT_GT(taken, 0);
    make("tiny-deepseek2");  // of the same shape, with keys as they are needed
    ASSERT_EQ(refusal("general.name", text("x")), "");
    const Model split = Model::load(directory_ / "bad.gguf");
    ASSERT_EQ(model.config().heads, split.config().heads);
    EXPECT_EQ(foreseen - memory_need(split, {}).workspace, taken);
}

}  // namespace
}  // namespace muster::checkpoints
