// SPDX-License-Identifier: Apache-2.0
// Hugging Face directories and GGUF files of the same values are the same models.
#include <gmock/gmock.h>

#include <algorithm>
#include <string>
#include <vector>

#include "muster/checkpoint/gguf.h"
#include "muster/checkpoint/hf_files.h"
#include "muster/core/test_directory.h"
#include "muster/core/thread_team.h"
#include "muster/model/convert.h"
#include "muster/model/forward.h"
#include "muster/model/importance_collector.h"
#include "muster/model/memory.h"
#include "muster/model/open_model.h"
#include "tools/make_checkpoint/gguf_output.h"
#include "tools/make_checkpoint/hf_output.h"

namespace muster::checkpoints {
namespace {

constexpr int kTokens = 40;

std::vector<float> logits(const Model& model, Compute compute = Compute::f32) {
    ThreadTeam team(2);
    ForwardContext context(model, team, kTokens, compute);
    KvCache cache(model.config(), kTokens, DType::f32);
    RequestRouting routing(model.config());
    std::vector<BatchRow> rows;
    for (int t = 0; t < kTokens; ++t)
        rows.push_back({(5 + 37 * t + 11 * t * t) % model.config().vocab, &cache, &routing, true});
    context.forward(rows);
    const auto all = context.logits(0, context.wanted());
    return {all.data, all.data + all.rows * all.cols};
}

class HuggingFace : public ::testing::TestWithParam<std::string> {
  protected:
    HuggingFace() : spec_(preset(GetParam())) {
        spec_.layers = std::min(spec_.layers, 3);
        spec_.vocab = 512;
    }
    void write(const char* type, const HfOptions& options) {
        const GgufFile source(MUSTER_SOURCE_DIR "/models/default.gguf");
        const Vocabulary vocabulary = Tokenizer::from_gguf(source).vocabulary();
        write_gguf(spec_, vocabulary, {parse_file_type(type), false, 0}, gguf_);
        write_hf(spec_, vocabulary, options, hf_);
    }

    CheckpointSpec spec_;
    TemporaryDirectory directory_;
    const std::filesystem::path gguf_ = directory_ / "model.gguf", hf_ = directory_ / "hf";
};

TEST_P(HuggingFace, LogitsAreThoseOfTheGgufFile) {
    write("f32", {});
    const Model a = Model::load(gguf_), b = Model::load(hf_);
    EXPECT_EQ(logits(a), logits(b));
    EXPECT_EQ(a.tokenizer().encode("The quick brown fox"),
              b.tokenizer().encode("The quick brown fox"));
}

TEST_P(HuggingFace, ImportanceIsThatOfTheGgufFile) {
    spec_.latent.split = true;  // as in what is made of a Hugging Face directory
    write("f32", {});
    const auto collected = [](const std::filesystem::path& path) {
        const Model model = Model::load(path);
        std::vector<int32_t> tokens;
        for (int t = 0; t < kTokens; ++t)
            tokens.push_back((5 + 37 * t + 11 * t * t) % model.config().vocab);
        ThreadTeam team(2);
        ImportanceOptions options;
        options.window = kTokens;
        ImportanceSums sums;
        collect_importance(model, team, tokens, options, sums);
        return sums;
    };
    const ImportanceSums a = collected(gguf_), b = collected(hf_);
    for (const auto& [name, entry] : a.tensors) {
        const auto other = b.tensors.find(name);
        ASSERT_TRUE(other != b.tensors.end()) << name;
        EXPECT_EQ(other->second.counts, entry.counts) << name;
        EXPECT_EQ(other->second.sums, entry.sums) << name;
        EXPECT_EQ(other->second.lent_counts, entry.lent_counts) << name;
    }
    EXPECT_EQ(b.tensors.size(), a.tensors.size());
}

TEST_P(HuggingFace, ConversionGivesTheGgufFile) {
    // Files that keep attn_kv_b whole are older ones, and conversion never makes them.
    spec_.latent.split = true;
    write("f32", {DType::f32, false, 1 << 20});
    const WeightMap gguf = open_gguf(gguf_), hf = open_hf(hf_, HfUse::convert);
    for (const auto& [key, value] : gguf.metadata()) {
        if (key.starts_with("tokenizer.") || key == "general.name") continue;
        ASSERT_TRUE(hf.has(key)) << key;
        EXPECT_TRUE(hf.metadata().find(key)->second == value) << key;
    }
    for (const auto& [name, tensor] : gguf.tensors()) {
        ASSERT_TRUE(hf.has_tensor(name)) << name;
        const TensorView& other = hf.tensors().find(name)->second;
        EXPECT_EQ(other.shape, tensor.shape) << name;
        EXPECT_EQ(other.dtype, tensor.dtype) << name;
        const int64_t rows = tensor.elements() / tensor.shape.back();
        std::vector<std::byte> buffer;
        const std::byte* made = hf.rows(name, 0, rows, buffer);
        EXPECT_TRUE(std::equal(made, made + tensor.bytes(), tensor.data)) << name;
    }
    EXPECT_EQ(hf.tensors().size(), gguf.tensors().size());
}

TEST_P(HuggingFace, WrittenFromTheGgufFileItIsTheSameModel) {
    write("f32", {});
    convert_to_hf(open_gguf(gguf_), directory_ / "back", {DType::f32, 1 << 20});
    const HfFiles written(hf_), back(directory_ / "back");
    EXPECT_EQ(back.names(), written.names());
    for (const std::string& name : written.names()) {
        const TensorView &a = *written.find(name), &b = *back.find(name);
        EXPECT_EQ(a.shape, b.shape) << name;
        EXPECT_TRUE(std::equal(a.data, a.data + a.bytes(), b.data)) << name;
    }
    EXPECT_EQ(logits(Model::load(hf_)), logits(Model::load(directory_ / "back")));
}

TEST_P(HuggingFace, WrittenInTheFilesOwnFormatsNothingIsLost) {
    write("bf16", {});
    std::filesystem::create_directory(directory_ / "back.tmp");  // of a program that was killed
    convert_to_hf(open_gguf(gguf_), directory_ / "back", {});
    const WeightMap gguf = open_gguf(gguf_), back = open_hf(directory_ / "back", HfUse::run);
    for (const auto& [name, tensor] : gguf.tensors()) {
        if (!name.ends_with("_norm.weight") && !name.ends_with("ffn_gate_inp.weight")) continue;
        std::vector<std::byte> buffer;
        const int64_t rows = tensor.elements() / tensor.shape.back();
        const std::byte* made = back.rows(name, 0, rows, buffer);
        ASSERT_EQ(back.tensor(name, tensor.shape).dtype, DType::f32) << name;
        EXPECT_TRUE(std::equal(made, made + tensor.bytes(), tensor.data)) << name;
    }
    EXPECT_EQ(logits(Model::load(gguf_)), logits(Model::load(directory_ / "back")));
}

CheckpointSpec small_gpt_oss() {
    CheckpointSpec spec = preset("tiny-gpt-oss");
    spec.layers = 2;
    spec.vocab = 512;
    return spec;
}

TEST(HuggingFaceMxfp4, ExpertsAreThoseOfTheGgufFileBothWays) {
    const CheckpointSpec spec = small_gpt_oss();
    const TemporaryDirectory directory;
    const GgufFile source(MUSTER_SOURCE_DIR "/models/default.gguf");
    const Vocabulary vocabulary = Tokenizer::from_gguf(source).vocabulary();
    write_gguf(spec, vocabulary, {parse_file_type("mxfp4_moe"), false, 0}, directory / "m.gguf");
    write_hf(spec, vocabulary, {DType::bf16, true, 0}, directory / "hf");
    convert_to_hf(open_gguf(directory / "m.gguf"), directory / "back", {});
    const WeightMap gguf = open_gguf(directory / "m.gguf");
    for (const char* hf : {"hf", "back"}) {
        const WeightMap map = open_hf(directory / hf, HfUse::run);
        for (const auto& [name, tensor] : gguf.tensors()) {
            if (!name.ends_with("_exps.weight")) continue;
            const TensorView& other = map.tensor(name, tensor.shape);
            ASSERT_EQ(other.dtype, DType::mxfp4);
            std::vector<std::byte> buffer;
            const std::byte* bytes = map.contents(other.data, other.bytes(), buffer);
            EXPECT_TRUE(std::equal(bytes, bytes + other.bytes(), tensor.data)) << name;
        }
        EXPECT_NO_THROW(logits(Model::load(directory / hf)));
    }
}

TEST(HuggingFaceMxfp4, ExpertsAreHeldOnce) {
    const CheckpointSpec spec = small_gpt_oss();
    const TemporaryDirectory directory;
    const GgufFile source(MUSTER_SOURCE_DIR "/models/default.gguf");
    write_hf(spec, Tokenizer::from_gguf(source).vocabulary(), {DType::bf16, true, 0},
             directory.path());
    ThreadTeam team(2);
    MemorySettings settings{.context = 100, .panels = true};
    MemoryNeed panels, rows;
    LoadOptions options;
    options.panels = &team;
    bool copy = true;
    options.foresee = [&](const Model& m) {
        // Nothing is made before it is known whether it fits.
        EXPECT_THAT(m.file().made(), ::testing::Contains("blk.1.ffn_down_exps.weight"));
        settings.panels = copy;
        (copy ? panels : rows) = memory_need(m, settings);
        return copy;
    };
    const Model copied = Model::load(directory.path(), options);
    copy = false;
    const Model mapped = Model::load(directory.path(), options);
    EXPECT_EQ(logits(copied, Compute::int8), logits(mapped, Compute::int8));
    EXPECT_EQ(copied.hash(), mapped.hash());
    EXPECT_EQ(copied.file().tensors().find("blk.1.ffn_down_exps.weight")->second.data, nullptr);

    int64_t experts = 0;
    for (const auto& [name, t] : mapped.file().tensors())
        if (name.ends_with("_exps.weight")) experts += t.bytes();
    EXPECT_GE(rows.made, experts);
    EXPECT_GE(panels.panels, experts);
    EXPECT_EQ(panels.made, rows.made - experts);
    for (const bool p : {false, true}) {
        settings.panels = p;
        const MemoryNeed& before = p ? panels : rows;
        for (const Model* model : {&copied, &mapped}) {
            const MemoryNeed need = memory_need(*model, settings);
            EXPECT_EQ(need.held(), before.held());
            EXPECT_EQ(need.mapped, before.mapped);
        }
    }
}

std::vector<std::string> tiny_presets() {
    std::vector<std::string> names;
    for (const std::string& name : preset_names())
        if (name.starts_with("tiny-")) names.push_back(name);
    return names;
}

INSTANTIATE_TEST_SUITE_P(Tiny, HuggingFace, ::testing::ValuesIn(tiny_presets()),
                         [](const auto& info) {
                             std::string name = info.param;
                             std::ranges::replace(name, '-', '_');
                             return name;
                         });

}  // namespace
}  // namespace muster::checkpoints
