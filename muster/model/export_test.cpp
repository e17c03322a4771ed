// SPDX-License-Identifier: Apache-2.0
#include "muster/model/export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "muster/core/error.h"
#include "muster/model/model.h"
#include "muster/model/request_routing.h"
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

Model exported(const Checkpoint& checkpoint, DType dtype = DType::f32) {
    const TemporaryDirectory directory;
    checkpoint.write(directory / "run");
    export_gguf(directory / "run", directory / "model.gguf", dtype);
    return Model::load(directory / "model.gguf");
}

std::string refusal_of(const auto& body) {
    try {
        body();
    } catch (const Error& e) {
        return e.what();
    }
    return "";
}

TEST(ExportGguf, ConfigComesBack) {
    for (ModelConfig config : {tiny_olmoe(), tiny_muster()}) {
        config.policy = RoutingPolicy::parse("top-p:0.5");
        config.mean_experts = {1, 2.5, 1.5};
        const Model model = exported(random_checkpoint(config));
        EXPECT_EQ(to_json(model.config()), to_json(config));
    }
}

TEST(ExportGguf, DynamicRoutingGetsAnEquivalentTopK) {
    ModelConfig config = tiny_olmoe();
    for (FeedForwardConfig& ff : config.layers) {
        ff.router.selection = Selection::top_p;
        ff.router.value = 0.4;
    }
    const auto used = [&] {
        const Model model = exported(random_checkpoint(config));
        EXPECT_EQ(model.config().layers[1].router.selection, Selection::top_p);
        EXPECT_EQ(RequestRouting(model.config()).layer(0).spec.value, 0.4);
        return model.file().integer("olmoe.expert_used_count");
    };
    EXPECT_EQ(used(), 2);  // unknown
    config.mean_experts = {3.5, 3, 2.5};
    EXPECT_EQ(used(), 3);
    config.mean_experts = {3.5, 3, 2.6};
    EXPECT_EQ(used(), 4);
}

TEST(ExportGguf, StoresMatricesInTheFormatAskedFor) {
    for (const DType dtype : {DType::f16, DType::bf16, DType::q8_0}) {
        const Model model = exported(random_checkpoint(tiny_olmoe()), dtype);
        for (const auto& [name, t] : model.file().tensors()) {
            const bool vector = t.shape.size() == 1, router = name.find("gate_inp") != name.npos;
            EXPECT_EQ(t.dtype, vector || router ? DType::f32 : dtype) << name;
        }
    }
    // Rows of 24 are no whole q8_0 blocks.
    const Model odd = exported(random_checkpoint(tiny_muster()), DType::q8_0);
    EXPECT_EQ(odd.file().tensors().at("token_embd.weight").dtype, DType::f32);
    EXPECT_EQ(odd.file().tensors().at("blk.1.ffn_down.3.weight").dtype, DType::q8_0);
}

TEST(ExportGguf, WritesATiedHeadOutForOlmoe) {
    ModelConfig config = tiny_olmoe();
    config.tied_head = true;
    const Model model = exported(random_checkpoint(config));
    EXPECT_EQ(model.config().architecture, "olmoe");
    EXPECT_TRUE(model.file().tensors().contains("output.weight"));
    EXPECT_FALSE(model.config().tied_head);
}

TEST(ExportGguf, BadCheckpointsAreRefusedInOneSentence) {
    const auto refusal = [](auto change, auto damage) -> std::string {
        const TemporaryDirectory directory;
        Checkpoint checkpoint = random_checkpoint(tiny_olmoe());
        change(checkpoint);
        checkpoint.write(directory / "run");
        damage(directory / "run");
        const std::string message = refusal_of(
            [&] { export_gguf(directory / "run", directory / "model.gguf", DType::f32); });
        EXPECT_FALSE(std::filesystem::exists(directory / "model.gguf"));
        return message;
    };
    const auto same = [](Checkpoint&) {};
    const auto none = [](const std::filesystem::path&) {};
    for (const char* file : {"config.json", "model.safetensors", "tokenizer.model"})
        EXPECT_THAT(refusal(same, [&](const auto& run) { std::filesystem::remove(run / file); }),
                    HasSubstr(file));
    EXPECT_THAT(refusal(same, [](const auto& run) { std::filesystem::remove_all(run); }),
                HasSubstr("no directory"));
    EXPECT_THAT(refusal([](Checkpoint& c) { c.tensors.erase("model.norm.weight"); }, none),
                HasSubstr("model.norm.weight"));
    EXPECT_THAT(refusal([](Checkpoint& c) { c.config.layers[0].widths.assign(6, 31); }, none),
                HasSubstr("model.layers.0.mlp.experts.0.gate_proj.weight"));
    EXPECT_THAT(refusal([](Checkpoint& c) { c.tensors["lm_head.weight"].values[5] = NAN; }, none),
                AllOf(HasSubstr("lm_head.weight"), HasSubstr("NaN")));
    EXPECT_THAT(refusal([](Checkpoint& c) { c.config.vocab -= 1; }, none), HasSubstr("vocabulary"));
}

TEST(ExportGguf, WeightsTooLargeForTheFormatAreRefused) {
    struct Case {
        DType dtype;
        float weight;
        const char* format;
    };
    for (const auto& [dtype, weight, format] :
         {Case{DType::f16, 70000, "which f16 cannot"}, Case{DType::q8_0, 1e8, "which q8_0 cannot"},
          Case{DType::bf16, 3.4e38F, "which bf16 cannot"}}) {
        for (const char* name : {"model.layers.1.mlp.experts.2.up_proj.weight", "lm_head.weight"}) {
            const TemporaryDirectory directory;
            Checkpoint checkpoint = random_checkpoint(tiny_olmoe());
            checkpoint.tensors[name].values[5] = weight;
            checkpoint.write(directory / "run");
            const auto message =
                AllOf(HasSubstr(std::string("tensor '") + name), HasSubstr(format));
            EXPECT_THAT(refusal_of([&] {
                            export_gguf(directory / "run", directory / "model.gguf", dtype);
                        }),
                        message);
            EXPECT_FALSE(std::filesystem::exists(directory / "model.gguf"));
            if (dtype == DType::q8_0) continue;
            EXPECT_THAT(refusal_of([&] { export_hf(directory / "run", directory / "hf", dtype); }),
                        message);
        }
    }
}

TEST(ExportHf, WritesALoadableDirectory) {
    const TemporaryDirectory directory;
    ModelConfig config = tiny_olmoe();
    config.tied_head = true;
    const Checkpoint checkpoint = random_checkpoint(config);
    checkpoint.write(directory / "run");
    export_hf(directory / "run", directory / "hf", DType::f32);
    const auto hf = nlohmann::json::parse(read_file(directory / "hf/config.json"));
    EXPECT_EQ(hf["architectures"][0], "OlmoeForCausalLM");
    EXPECT_EQ(hf["num_experts_per_tok"], 2);
    EXPECT_EQ(hf["norm_topk_prob"], false);
    EXPECT_EQ(hf["tie_word_embeddings"], true);
    EXPECT_EQ(hf["intermediate_size"], 32);
    const SafetensorsFile weights(directory / "hf/model.safetensors");
    EXPECT_EQ(weights.tensors().size(), checkpoint.tensors.size());
    for (const auto& [name, t] : checkpoint.tensors) {
        const TensorView& view = weights.tensor(name, t.shape);
        EXPECT_EQ(std::memcmp(view.data, t.values.data(), view.bytes()), 0) << name;
    }
    for (const char* file : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"})
        EXPECT_TRUE(nlohmann::json::accept(read_file(directory / "hf" / file))) << file;
    export_hf(directory / "run", directory / "hf", DType::bf16);  // over an existing one
    EXPECT_EQ(SafetensorsFile(directory / "hf/model.safetensors").tensors().begin()->second.dtype,
              DType::bf16);
}

TEST(ExportHf, RefusesWhatOlmoeCannotExpress) {
    const TemporaryDirectory directory;
    random_checkpoint(tiny_muster()).write(directory / "run");
    try {
        export_hf(directory / "run", directory / "hf", DType::f32);
        FAIL();
    } catch (const Error& e) {
        EXPECT_THAT(e.what(), HasSubstr("grouped K/V heads"));
    }
    random_checkpoint(tiny_olmoe()).write(directory / "run");
    EXPECT_THROW(export_hf(directory / "run", directory / "hf", DType::q8_0), Error);
}

}  // namespace
}  // namespace muster
