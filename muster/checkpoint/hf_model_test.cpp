// SPDX-License-Identifier: Apache-2.0
#include "muster/checkpoint/hf_model.h"

#include <gmock/gmock.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "muster/checkpoint/safetensors.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/test_directory.h"

namespace muster {
namespace {

using Shapes = std::map<std::string, std::vector<int64_t>>;

/// Mixtral with one layer, two heads of 4, two experts.
Shapes shapes() {
    Shapes all{{"model.embed_tokens.weight", {6, 8}},
               {"model.norm.weight", {8}},
               {"lm_head.weight", {6, 8}},
               {"model.layers.0.input_layernorm.weight", {8}},
               {"model.layers.0.post_attention_layernorm.weight", {8}},
               {"model.layers.0.block_sparse_moe.gate.weight", {2, 8}}};
    for (const char* part : {"q", "k", "v", "o"})
        all[std::string("model.layers.0.self_attn.") + part + "_proj.weight"] = {8, 8};
    for (const char* e : {"0", "1"}) {
        const std::string expert = std::string("model.layers.0.block_sparse_moe.experts.") + e;
        all[expert + ".w1.weight"] = all[expert + ".w3.weight"] = {12, 8};
        all[expert + ".w2.weight"] = {8, 12};
    }
    return all;
}

class HfModelTest : public ::testing::Test {
  protected:
    /// Tensor by tensor the values 0, 1, 2 ... and a quarter of its place.
    void write(const Shapes& all, const std::string& more = "", DType dtype = DType::f32) {
        std::vector<std::vector<std::byte>> owned;
        std::vector<NamedTensor> tensors;
        for (const auto& [name, shape] : all) {
            TensorView view{dtype, shape, nullptr};
            std::vector<float> values(static_cast<size_t>(view.elements()));
            for (size_t i = 0; i < values.size(); ++i)
                values[i] = static_cast<float>(i) + 0.25f * static_cast<float>(tensors.size());
            auto& bytes = owned.emplace_back(static_cast<size_t>(view.bytes()));
            if (dtype == DType::f32) std::memcpy(bytes.data(), values.data(), bytes.size());
            view.data = bytes.data();
            tensors.push_back({name, view});
        }
        write_safetensors(directory_ / "model.safetensors", tensors);
        write_file(directory_ / "config.json",
                   R"({"architectures":["MixtralForCausalLM"],"vocab_size":6,"hidden_size":8,
                   "intermediate_size":12,"num_attention_heads":2,"num_local_experts":2,
                   "num_experts_per_tok":1,"max_position_embeddings":64,"rms_norm_eps":1e-5)" +
                       more +
                       (more.find("layers") == more.npos ? R"(,"num_hidden_layers":1})" : "}"));
    }
    WeightMap open(HfUse use = HfUse::run) const { return open_hf(directory_.path(), use); }
    void refused(const std::string& what) const {
        for (const HfUse use : {HfUse::run, HfUse::convert}) {
            try {
                open(use);
                ADD_FAILURE() << "accepted, expected: " << what;
            } catch (const Error& error) {
                EXPECT_THAT(error.what(), ::testing::HasSubstr(what));
            }
        }
    }

    TemporaryDirectory directory_;
};

TEST_F(HfModelTest, ViewsOrRowsAreTheSameValues) {
    write(shapes());
    const WeightMap run = open(HfUse::run), convert = open(HfUse::convert);
    EXPECT_TRUE(run.has_tensor("blk.0.ffn_down.1.weight"));
    EXPECT_FALSE(run.has_tensor("blk.0.ffn_down_exps.weight"));
    std::vector<std::byte> buffer;
    // Rows 8 to 15 of the stack are the second expert's.
    const std::byte* rows = convert.rows("blk.0.ffn_down_exps.weight", 8, 8, buffer);
    const TensorView& second = run.tensor("blk.0.ffn_down.1.weight", {8, 12});
    EXPECT_EQ(std::memcmp(rows, second.data, static_cast<size_t>(second.bytes())), 0);
    // The first head's rows 0 1 2 3 become 0 2 1 3.
    const TensorView& place = run.tensor("blk.0.attn_q.weight", {8, 8});
    EXPECT_FALSE(run.in_files(place.data));
    EXPECT_TRUE(run.in_files(second.data));
    std::vector<std::byte> made;
    const auto* query = reinterpret_cast<const float*>(run.contents(place.data, 256, made));
    EXPECT_EQ(query[8] - query[0], 16);
    EXPECT_EQ(query[16] - query[0], 8);
    rows = convert.rows("blk.0.attn_q.weight", 1, 1, buffer);
    EXPECT_EQ(std::memcmp(rows, query + 8, 32), 0);
    rows = run.contents(place.data + 40, 8, buffer);
    EXPECT_EQ(std::memcmp(rows, query + 10, 8), 0);
}

TEST_F(HfModelTest, TensorsAreMadeWhereTheirViewsPoint) {
    write(shapes());
    WeightMap run = open(), convert = open(HfUse::convert);
    EXPECT_THAT(run.made(), ::testing::ElementsAre("blk.0.attn_k.weight", "blk.0.attn_q.weight"));
    std::vector<std::byte> buffer;
    run.make("blk.0.attn_k.weight", 5, 3);
    run.make("blk.0.attn_k.weight", 0, 5);
    run.keep_made("blk.0.attn_k.weight");
    EXPECT_THAT(run.made(), ::testing::ElementsAre("blk.0.attn_q.weight"));
    const WeightMap moved = std::move(run);
    const std::byte* key = moved.tensor("blk.0.attn_k.weight", {8, 8}).data;
    EXPECT_EQ(moved.contents(key, 256, buffer), key);
    EXPECT_EQ(std::memcmp(key, convert.rows("blk.0.attn_k.weight", 0, 8, buffer), 256), 0);
}

TEST_F(HfModelTest, WhatIsMissingOrNotKnownIsRefused) {
    for (const auto& [name, shape] : shapes()) {
        Shapes all = shapes();
        all.erase(name);
        write(all);
        refused("'" + name + "'");
        all[name] = {3, 5};
        write(all);
        refused("has shape [3, 5], expected");
    }
    Shapes all = shapes();
    all["model.layers.0.self_attn.q_norm.weight"] = {4};
    write(all);
    refused("'model.layers.0.self_attn.q_norm.weight' is not known");
    write(shapes(), "", DType::i32);
    refused("is i32");
}

TEST_F(HfModelTest, WhatSaysNothingNewIsLeftOut) {
    Shapes all = shapes();
    all["model.layers.0.self_attn.rotary_emb.inv_freq"] = {2};
    write(all, R"(,"tie_word_embeddings":true)");
    EXPECT_FALSE(open().has_tensor("output.weight"));
}

TEST_F(HfModelTest, MoreLayersThanTensorsAreRefusedBeforeTheirNamesAreMade) {
    write(shapes(), R"(,"num_hidden_layers":1000)");
    refused("expected at least");
}

}  // namespace
}  // namespace muster
