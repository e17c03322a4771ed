// SPDX-License-Identifier: Apache-2.0
#include "muster/model/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "muster/checkpoint/gguf.h"
#include "muster/core/error.h"
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
    };
    /// Loads a changed copy; the message of the refusal, or nothing.
    std::string refusal(const Change& change) {
        GgufWriter writer;
        copy_metadata(writer, change.drop_key);
        if (change.set) change.set(writer);
        for (const auto& [name, tensor] : good_->tensors()) {
            if (name == change.drop_tensor) continue;
            TensorView view = tensor;
            if (change.edit) change.edit(name, view);
            writer.add_tensor(name, view);
        }
        writer.write(directory_ / "bad.gguf");
        try {
            Model::load(directory_ / "bad.gguf");
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    }
    void copy_metadata(GgufWriter& writer, const std::string& drop) const {
        for (const auto& [key, value] : good_->metadata()) {
            if (key == drop) continue;
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
