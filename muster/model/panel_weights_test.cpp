// SPDX-License-Identifier: Apache-2.0
#include "muster/model/panel_weights.h"

#include <gmock/gmock.h>

#include "muster/core/thread_team.h"
#include "muster/cpu/isa.h"
#include "muster/model/export.h"
#include "muster/model/forward.h"
#include "muster/model/testing.h"
#include "muster/quant/panels.h"

namespace muster {
namespace {

using ::testing::HasSubstr;
using testing::random_checkpoint;
using testing::TemporaryDirectory;
using ::testing::ThrowsMessage;

ModelConfig olmoe() { return testing::tiny_olmoe(); }

/// A head that is the embedding, a dense layer, shared experts, and in the last layer an expert
/// whose width no block divides, so that the layer's experts are not multiplied in integers.
ModelConfig mixed() {
    ModelConfig c = testing::tiny_olmoe();
    c.architecture = "muster";
    c.tied_head = true;
    c.layers[0].widths = {64};
    c.layers[0].router = {};
    c.layers[1].widths = {32, 64, 32, 96, 32, 32};
    c.layers[1].shared_width = 32;
    c.layers[2].widths = {32, 40, 32, 96, 32, 32};
    return c;
}

class PanelWeightsTest : public ::testing::Test {
  protected:
    void write(const ModelConfig& config) {
        random_checkpoint(config).write(directory_ / "run");
        export_gguf(directory_ / "run", path(), DType::q8_0);
    }
    std::filesystem::path path() const { return directory_ / "model.gguf"; }
    Model load(Executor* panels, const Progress& progress = {}) const {
        LoadOptions options;
        options.panels = panels;
        options.progress = progress;
        return Model::load(path(), options);
    }
    std::vector<float> logits(const Model& model, std::vector<int32_t> tokens) {
        ForwardContext context(model, team_, 16, Compute::int8);
        KvCache cache(model.config(), 32);
        RequestRouting routing(model.config());
        std::vector<BatchRow> rows;
        for (const int32_t t : tokens) rows.push_back({t, &cache, &routing, true});
        context.forward(rows);
        const MatrixView<float> all = context.logits(0, context.wanted());
        std::vector<float> out(all.data, all.data + all.rows * all.cols);
        rows.resize(1);  // one more token: the path of decoding
        context.forward(rows);
        const MatrixView<float> one = context.logits(0, 1);
        out.insert(out.end(), one.data, one.data + one.cols);
        return out;
    }

    TemporaryDirectory directory_;
    ThreadTeam team_{2};
};

TEST_F(PanelWeightsTest, LogitsAreTheSameBits) {
    for (const ModelConfig& config : {olmoe(), mixed()}) {
        write(config);
        const Model rows = load(nullptr), panels = load(&team_);
        EXPECT_EQ(rows.panel_bytes(), 0U);
        EXPECT_GT(panels.panel_bytes(), 0U);
        EXPECT_EQ(rows.hash(), panels.hash());
        const std::vector<int32_t> tokens = {5, 270, 33, 1, 90, 7, 7, 250, 100, 262};
        const Isa best = current_isa();
        for (const Isa isa : available_isas()) {
            set_isa(isa);
            EXPECT_EQ(logits(rows, tokens), logits(panels, tokens)) << isa_name(isa);
        }
        set_isa(best);
    }
}

TEST_F(PanelWeightsTest, ArrangesWhatIsMultipliedInIntegers) {
    write(mixed());
    const Model model = load(&team_);
    const ModelWeights& w = model.weights();
    EXPECT_EQ(w.layers[0].query.layout, WeightLayout::panels);
    EXPECT_EQ(w.layers[0].experts.experts[0].down.layout, WeightLayout::panels);
    EXPECT_EQ(w.layers[1].experts.experts[3].up.layout, WeightLayout::panels);
    EXPECT_EQ(w.layers[1].shared.experts[0].gate.layout, WeightLayout::panels);
    EXPECT_EQ(w.layers[2].experts.experts[0].gate.layout, WeightLayout::rows);
    EXPECT_EQ(w.head.layout, WeightLayout::panels);
    EXPECT_EQ(w.embedding.layout, WeightLayout::rows);
    EXPECT_EQ(w.layers[1].router.layout, WeightLayout::rows);
    std::vector<std::byte> row(static_cast<size_t>(w.head.row_bytes()));
    unpack_row(w.head, 17, row.data());
    EXPECT_TRUE(std::equal(row.begin(), row.end(), w.embedding.row(17)));
}

TEST_F(PanelWeightsTest, OtherPrecisionsAreRefused) {
    write(olmoe());
    const Model model = load(&team_);
    for (const Compute compute : {Compute::f32, Compute::bf16}) {
        EXPECT_THAT([&] { ForwardContext(model, team_, 16, compute); },
                    ThrowsMessage<Error>(HasSubstr("expected Compute::int8")));
    }
}

TEST_F(PanelWeightsTest, CanBeStopped) {
    write(olmoe());
    const auto stop = [](std::string_view what, int64_t, int64_t) {
        return what != "arranging weights";
    };
    EXPECT_THAT([&] { load(&team_, stop); }, ThrowsMessage<Error>(HasSubstr("stopped")));
}

}  // namespace
}  // namespace muster
