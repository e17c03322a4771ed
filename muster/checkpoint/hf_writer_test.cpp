// SPDX-License-Identifier: Apache-2.0
// What cannot be written as a Hugging Face directory is refused by name. That what is written is
// the same model: tools/make_checkpoint/hf_test.cpp.
#include "muster/checkpoint/hf_writer.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "muster/checkpoint/hf_family.h"
#include "muster/checkpoint/safetensors.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/test_directory.h"
#include "muster/quant/convert.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Keys = std::map<std::string, MetadataValue>;
using Names = std::set<std::string, std::less<>>;

MetadataValue number(int64_t n) { return static_cast<uint64_t>(n); }

/// Two layers of width 64 with two heads of 32 and, unless it is llama, two experts.
Keys keys(const std::string& arch) {
    Keys all{{"general.architecture", arch}};
    const auto set = [&](const char* key, MetadataValue value) { all[arch + "." + key] = value; };
    set("vocab_size", number(5));
    set("context_length", number(64));
    set("embedding_length", number(64));
    set("block_count", number(2));
    set("feed_forward_length", number(32));
    set("attention.head_count", number(2));
    set("attention.layer_norm_rms_epsilon", 1e-5);
    if (arch != "llama") set("expert_count", number(2));
    if (arch != "llama") set("expert_used_count", number(1));
    if (arch == "gpt-oss") set("attention.sliding_window", number(16));
    if (arch == "granitemoe") set("logit_scale", 1.0);
    if (arch == "deepseek2") {
        set("attention.kv_lora_rank", number(16));
        set("rope.dimension_count", number(8));
        set("attention.key_length_mla", number(32));
        set("attention.value_length_mla", number(32));
        set("expert_feed_forward_length", number(32));
        set("expert_shared_count", number(1));
        set("expert_gating_func", number(1));
    }
    return all;
}

Keys with(Keys all, const std::string& key, MetadataValue value) {
    all[key] = std::move(value);
    return all;
}

/// All tensors that such a model must have and, of those that it may have, `optional`; of zeros.
WeightMap model(const Keys& keys, const Names& optional = {}, DType experts = DType::f32) {
    WeightMap map("m.gguf");
    for (const auto& [key, value] : keys) map.set(key, value);
    const auto present = [&](std::string_view, std::string_view gguf) {
        return optional.contains(gguf);
    };
    const HfShape shape = hf_shape(map, hf_family_of(map));
    for (const Correspondence& c : hf_correspondences(shape, present, false, false)) {
        for (const Gather& g : c.hf) {
            for (const GatherSource& s : g.sources) {
                if (map.has_tensor(s.name)) continue;
                const DType dtype = s.name.ends_with("_exps.weight") ? experts : DType::f32;
                std::byte* at = map.allocate(s.name, dtype, s.shape);
                std::fill_n(at, map.tensor(s.name, s.shape).bytes(), std::byte{0});
            }
        }
    }
    return map;
}

/// Where a tensor's bytes are to be written.
std::byte* bytes_of(WeightMap& map, std::string_view name) {
    return const_cast<std::byte*>(map.tensors().find(name)->second.data);
}

class HfWriterTest : public ::testing::Test {
  protected:
    std::string refusal(const WeightMap& map, const HfWriteOptions& options = {},
                        const Progress& progress = {}) const {
        try {
            write_hf(map, directory_.path(), options, progress);
        } catch (const Error& error) {
            return error.what();
        }
        return "no error";
    }
    std::string refusal(const Keys& keys) const { return refusal(model(keys)); }
    std::string config() const { return read_file(directory_ / "config.json"); }

    TemporaryDirectory directory_;
};

TEST_F(HfWriterTest, OrdinaryModelsAreWritten) {
    for (const char* arch :
         {"llama", "olmoe", "qwen2moe", "qwen3moe", "deepseek2", "gpt-oss", "granitemoe"}) {
        Names biases;
        for (const char* layer : {"blk.0.", "blk.1."})
            for (const char* part : {"attn_q.bias", "attn_k.bias", "attn_v.bias"})
                if (std::string(arch) == "qwen2moe") biases.insert(std::string(layer) + part);
        EXPECT_EQ(refusal(model(keys(arch), biases)), "no error") << arch;
    }
}

TEST_F(HfWriterTest, SettingsThatTransformersCannotExpressAreRefused) {
    const auto expect = [&](const char* arch, const char* key, const MetadataValue& value,
                            const char* message) {
        EXPECT_THAT(refusal(with(keys(arch), key, value)),
                    AllOf(HasSubstr(message), HasSubstr("cannot express")));
    };
    const MetadataValue words = MetadataArray(std::vector<std::string>{"top-p", "top-p"});
    expect("olmoe", "muster.router.selection", words, "sets routers of its own");
    expect("olmoe", "olmoe.expert_weights_scale", 2.5, "olmoe.expert_weights_scale is not 1");
    expect("olmoe", "olmoe.rope.dimension_count", number(16),
           "olmoe.rope.dimension_count is not the length of heads");
    expect("olmoe", "olmoe.attention.key_length", number(16),
           "olmoe.attention.key_length is not the width by the number of heads");
    expect("olmoe", "olmoe.rope.scaling.type", std::string("longrope"),
           "olmoe.rope.scaling.type is longrope");
    expect("gpt-oss", "gpt-oss.attention.sliding_window_pattern", number(3),
           "gpt-oss.attention.sliding_window_pattern is not 2");
    expect("deepseek2", "deepseek2.expert_weights_norm", true,
           "deepseek2.expert_weights_norm is true");
    expect("deepseek2", "deepseek2.expert_group_count", number(2),
           "deepseek2.expert_group_count ranks groups by their two best experts");
    Keys yarn = with(keys("deepseek2"), "deepseek2.rope.scaling.type", std::string("yarn"));
    yarn = with(yarn, "deepseek2.rope.scaling.factor", 4.0);
    EXPECT_THAT(refusal(yarn), HasSubstr("deepseek2.rope.scaling.yarn_log_multiplier is 0"));
    yarn = with(yarn, "deepseek2.rope.scaling.yarn_log_multiplier", 0.1);
    EXPECT_EQ(refusal(yarn), "no error");
}

TEST_F(HfWriterTest, ShapesThatNoFamilyHasAreRefused) {
    WeightMap unknown("m.gguf");
    unknown.set("general.architecture", std::string("gemma"));
    EXPECT_THAT(refusal(unknown), HasSubstr("architecture 'gemma' has no Hugging Face layout"));
    const std::pair<const char*, int64_t> cases[] = {{"olmoe.expert_count", 0},
                                                     {"olmoe.expert_count", 5000},
                                                     {"olmoe.feed_forward_length", 0},
                                                     {"olmoe.attention.key_length", 0}};
    for (const auto& [key, value] : cases) {
        WeightMap map("m.gguf");
        for (const auto& [k, v] : with(keys("olmoe"), key, number(value))) map.set(k, v);
        EXPECT_THAT(refusal(map), HasSubstr("do not fit the architecture OlmoeForCausalLM")) << key;
    }
    WeightMap odd("m.gguf");
    for (const auto& [k, v] : with(keys("llama"), "llama.attention.key_length", number(7)))
        odd.set(k, v);
    EXPECT_THAT(refusal(odd), HasSubstr("do not fit the architecture LlamaForCausalLM"));
    WeightMap missing("m.gguf");
    missing.set("general.architecture", std::string("olmoe"));
    EXPECT_THAT(refusal(missing), HasSubstr("olmoe.embedding_length"));
}

TEST_F(HfWriterTest, Llama3DivisorsMustBeItsOwn) {
    const Keys all = with(keys("llama"), "llama.rope.freq_base", 500000.0);
    const auto divided = [&](DType dtype, float divisor) {
        WeightMap map = model(all);
        std::vector<float> divisors(16, divisor);
        divisors.front() = 1;
        std::byte* at = map.allocate("rope_freqs.weight", dtype, {16});
        encode_row(dtype, divisors.data(), at, 16);
        return refusal(map);
    };
    EXPECT_EQ(divided(DType::f32, 1), "no error");
    EXPECT_THAT(divided(DType::f16, 1), HasSubstr("rope_freqs.weight is not f32"));
    EXPECT_THAT(divided(DType::f32, 2), HasSubstr("other divisors than Llama 3's"));
    EXPECT_THAT(divided(DType::f32, NAN), HasSubstr("other divisors than Llama 3's"));
}

TEST_F(HfWriterTest, BiasesOfSomeProjectionsAreRefused) {
    Names all;
    for (const char* layer : {"blk.0.", "blk.1."})
        for (const char* part : {"attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_output.bias"})
            all.insert(std::string(layer) + part);
    for (const char* arch : {"llama", "olmoe", "qwen3moe", "granitemoe", "gpt-oss"}) {
        EXPECT_EQ(refusal(model(keys(arch), all)), "no error") << arch;
        EXPECT_THAT(config(), HasSubstr("\"attention_bias\": true"));
        for (const std::string& left : all) {
            Names some = all;
            some.erase(left);
            EXPECT_THAT(refusal(model(keys(arch), some)),
                        HasSubstr("has no tensor '" + left + "', expected one"));
        }
        EXPECT_EQ(refusal(keys(arch)), "no error") << arch;
        EXPECT_THAT(config(), HasSubstr("\"attention_bias\": false"));
    }
    EXPECT_THAT(refusal(model(keys("qwen2moe"), all)),
                HasSubstr("has the tensor 'blk.0.attn_output.bias', expected none there"));
    EXPECT_THAT(refusal(keys("qwen2moe")), HasSubstr("has no tensor 'blk.0.attn_q.bias'"));
    Keys mixtral = with(keys("llama"), "llama.expert_count", number(2));
    mixtral = with(mixtral, "llama.expert_used_count", number(1));
    EXPECT_EQ(refusal(mixtral), "no error");
    EXPECT_THAT(refusal(model(mixtral, {"blk.1.attn_v.bias"})),
                HasSubstr("has the tensor 'blk.1.attn_v.bias', expected none there"));
}

TEST_F(HfWriterTest, TensorsThatDoNotFitAreRefused) {
    constexpr const char* kName = "blk.1.attn_q.weight";
    const auto replaced = [&](auto add) {
        WeightMap map("m.gguf");
        const WeightMap whole = model(keys("olmoe"));
        for (const auto& [key, value] : whole.metadata()) map.set(key, value);
        for (const auto& [name, tensor] : whole.tensors())
            if (name != kName) map.add(name, tensor);
        add(map);
        return refusal(map);
    };
    EXPECT_THAT(replaced([](WeightMap&) {}), HasSubstr("has no tensor 'blk.1.attn_q.weight'"));
    EXPECT_THAT(replaced([](WeightMap& m) {
                    m.allocate(kName, DType::f32, {64, 32});
                }),
                HasSubstr("has shape [64, 32], expected [64, 64]"));
    EXPECT_THAT(replaced([](WeightMap& m) {
                    m.allocate(kName, DType::i32, {64, 64});
                }),
                HasSubstr("'blk.1.attn_q.weight' is not of a GGUF file in a format of weights"));
    EXPECT_THAT(replaced([](WeightMap& m) {
                    m.add_rows(kName, DType::f32, {64, 64}, [](int64_t, int64_t, std::byte*) {});
                }),
                HasSubstr("'blk.1.attn_q.weight' is not of a GGUF file in a format of weights"));
    WeightMap more = model(keys("olmoe"));
    more.allocate("blk.0.attn_sinks.weight", DType::f32, {2});
    EXPECT_THAT(refusal(more), HasSubstr("'blk.0.attn_sinks.weight' is not known in Olmoe"));
}

TEST_F(HfWriterTest, ValuesThatCannotBeStoredAreRefused) {
    WeightMap map = model(keys("olmoe"));
    const auto weight = [&](float value) {
        std::memcpy(bytes_of(map, "blk.1.attn_q.weight") + 400, &value, sizeof(value));
    };
    constexpr const char* kName = "'model.layers.1.self_attn.q_proj.weight' holds ";
    weight(NAN);
    EXPECT_THAT(refusal(map), HasSubstr(std::string(kName) + "NaN or infinity"));
    weight(70000);
    EXPECT_THAT(refusal(map, {.dtype = DType::f16}),
                HasSubstr(std::string(kName) + "70000, which f16 cannot"));
    EXPECT_EQ(refusal(map, {.dtype = DType::bf16}), "no error");
    EXPECT_THAT(refusal(map, {.dtype = DType::q8_0}),
                HasSubstr("cannot hold q8_0, expected f32, f16 or bf16"));
    const auto stop = [](std::string_view, int64_t, int64_t) { return false; };
    EXPECT_THAT(refusal(map, {}, stop), HasSubstr("writing was stopped"));

    WeightMap blocks = model(keys("gpt-oss"), {}, DType::mxfp4);
    EXPECT_EQ(refusal(blocks), "no error");
    bytes_of(blocks, "blk.1.ffn_up_exps.weight")[17] = std::byte{255};
    EXPECT_THAT(refusal(blocks), HasSubstr("'model.layers.1.mlp.experts.gate_up_proj' holds NaN"));
}

}  // namespace
}  // namespace muster
