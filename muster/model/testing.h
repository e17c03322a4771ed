// SPDX-License-Identifier: Apache-2.0
// For tests: tiny random training checkpoints and a plain double-precision implementation of the
// whole model to compare with. Shares no code with the engine beyond file formats.
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "muster/checkpoint/safetensors.h"
#include "muster/core/atomic_file.h"
#include "muster/core/random.h"
#include "muster/core/test_directory.h"
#include "muster/model/config.h"
#include "muster/model/model.h"
#include "muster/model/trace.h"
#include "muster/routing/activation_plan.h"
#include "muster/routing/router.h"
#include "muster/tokenizer/tokenizer.h"

namespace muster::testing {

using muster::TemporaryDirectory;

/// Control tokens, all bytes, and a few pieces.
inline Vocabulary tiny_vocabulary() {
    Vocabulary v;
    const auto add = [&](std::string piece, TokenType type) {
        v.scores.push_back(type == TokenType::normal ? -static_cast<float>(v.pieces.size()) : 0.0f);
        v.pieces.push_back(std::move(piece));
        v.types.push_back(type);
    };
    add("<unk>", TokenType::unknown);
    add("<s>", TokenType::control);
    add("</s>", TokenType::control);
    for (int b = 0; b < 256; ++b) {
        char name[8];
        std::snprintf(name, sizeof name, "<0x%02X>", b);
        add(name, TokenType::byte);
    }
    add("th", TokenType::normal);
    add("the", TokenType::normal);
    add("\xE2\x96\x81", TokenType::normal);
    for (char c = 'a'; c <= 'z'; ++c) add(std::string(1, c), TokenType::normal);
    v.unk = 0;
    v.bos = 1;
    v.eos = 2;
    return v;
}

struct Tensor {
    std::vector<int64_t> shape;
    std::vector<float> values;
};

/// A training checkpoint in memory.
struct Checkpoint {
    ModelConfig config;
    Vocabulary vocabulary = tiny_vocabulary();
    std::map<std::string, Tensor> tensors;

    void write(const std::filesystem::path& directory) const {
        std::filesystem::create_directories(directory);
        write_file(directory / "config.json", to_json(config));
        write_file(directory / "tokenizer.model", to_sentencepiece(vocabulary));
        std::vector<NamedTensor> named;
        named.reserve(tensors.size());
        for (const auto& [name, t] : tensors)
            named.push_back(
                {name, {DType::f32, t.shape, reinterpret_cast<const std::byte*>(t.values.data())}});
        write_safetensors(directory / "model.safetensors", named);
    }
};

/// OLMoE in small: what `olmoe` can express.
inline ModelConfig tiny_olmoe() {
    ModelConfig c;
    c.name = "tiny";
    c.vocab = tiny_vocabulary().size();
    c.d_model = 32;
    c.heads = c.kv_heads = 4;
    c.head_dim = 8;
    c.context = 48;
    FeedForwardConfig ff;
    ff.widths.assign(6, 32);
    ff.router.num_experts = 6;
    ff.router.value = 2;
    c.layers.assign(3, ff);
    return c;
}

/// What only `muster` can express: grouped heads of another size, tied head, a dense layer, unequal
/// widths, shared experts, per-head q/k norm, interleaved RoPE, plain experts, renormed weights,
/// router settings per layer.
inline ModelConfig tiny_muster() {
    ModelConfig c = tiny_olmoe();
    c.architecture = "muster";
    c.d_model = 24;
    c.heads = 6;
    c.kv_heads = 2;
    c.head_dim = 6;
    c.tied_head = true;
    c.qk_norm = QkNorm::per_head;
    c.rope = RopeLayout::norm;
    c.activation = Activation::gelu;
    c.gated = false;
    c.layers[0].widths = {40};
    c.layers[0].router = {};
    c.layers[1].widths = {8, 16, 24, 32, 40};
    c.layers[1].router.num_experts = 5;
    c.layers[1].router.selection = Selection::top_p;
    c.layers[1].router.value = 0.6;
    c.layers[1].router.max = 3;
    c.layers[1].shared_width = 12;
    c.layers[2].router.weight = Weighting::renorm;
    return c;
}

inline Checkpoint random_checkpoint(const ModelConfig& config, uint64_t seed = 1) {
    using namespace tensor_names;
    Checkpoint out{.config = config, .tensors = {}};
    Random random(seed);
    const auto add = [&](std::string name, std::vector<int64_t> shape) {
        Tensor t{std::move(shape), {}};
        int64_t n = 1;
        for (const int64_t s : t.shape) n *= s;
        // Norms near one; matrices so that products keep the size of their input.
        const bool norm = t.shape.size() == 1;
        const double deviation = norm ? 0.1 : 1.0 / std::sqrt(static_cast<double>(t.shape[1]));
        for (int64_t i = 0; i < n; ++i)
            t.values.push_back(
                static_cast<float>((norm ? 1.0 : 0.0) + deviation * random.normal()));
        out.tensors.emplace(std::move(name), std::move(t));
    };
    const ModelConfig& c = config;
    const int64_t d = c.d_model, q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
    add(std::string(kEmbedding), {c.vocab, d});
    add(std::string(kFinalNorm), {d});
    if (!c.tied_head) add(std::string(kHead), {c.vocab, d});
    const bool full = c.qk_norm == QkNorm::full;
    for (int l = 0; l < c.num_layers(); ++l) {
        const FeedForwardConfig& ff = c.layers[l];
        add(layer(l, kAttentionNorm), {d});
        add(layer(l, kFeedForwardNorm), {d});
        add(layer(l, kQuery), {q, d});
        add(layer(l, kKey), {kv, d});
        add(layer(l, kValue), {kv, d});
        add(layer(l, kOutput), {d, q});
        if (c.qk_norm != QkNorm::none) {
            add(layer(l, kQueryNorm), {full ? q : c.head_dim});
            add(layer(l, kKeyNorm), {full ? kv : c.head_dim});
        }
        if (!ff.dense()) add(layer(l, kRouter), {ff.experts(), d});
        for (int e = 0; e < ff.experts(); ++e) {
            if (c.gated) add(expert(l, e, "gate"), {ff.widths[e], d});
            add(expert(l, e, "up"), {ff.widths[e], d});
            add(expert(l, e, "down"), {d, ff.widths[e]});
        }
        if (ff.shared_width > 0) {
            if (c.gated) add(layer(l, kSharedGate), {ff.shared_width, d});
            add(layer(l, kSharedUp), {ff.shared_width, d});
            add(layer(l, kSharedDown), {d, ff.shared_width});
        }
    }
    return out;
}

/// A plan at top-k:`k` with random impacts and budgets that differ by 1 where layers allow it, and
/// random context clusters.
inline ActivationPlan random_plan(const Model& model, int k, int clusters, uint64_t seed = 3) {
    Random random(seed);
    ActivationPlan plan;
    plan.model = model.hash();
    plan.experts_per_token = k;
    plan.lambda = 0.5;
    const ModelConfig& config = model.config();
    std::vector<size_t> moe;
    for (int l = 0; l < config.num_layers(); ++l) {
        LayerEvidence& layer = plan.layers.emplace_back();
        if (config.layers[l].dense()) continue;
        moe.push_back(static_cast<size_t>(l));
        layer.budget = k;
        for (int e = 0; e < config.layers[l].experts(); ++e)
            layer.experts.push_back({{random.normal(), -1, 1}, 1, 1, false});
    }
    for (size_t i = 1; i < moe.size(); i += 2) {
        if (k < 2 || k == most_experts(config.layers[moe[i]].router)) continue;
        --plan.layers[moe[i - 1]].budget;
        ++plan.layers[moe[i]].budget;
    }
    for (int c = 0; c < clusters; ++c) {
        ContextCluster& cluster = plan.clusters.emplace_back();
        for (const LayerEvidence& layer : plan.layers) {
            const size_t n = layer.experts.size();
            std::vector<float> centre(n), impact(n);
            double sum = 0;
            for (float& x : centre) sum += x = static_cast<float>(random.uniform());
            for (float& x : centre) x /= static_cast<float>(sum);
            for (float& x : impact) x = static_cast<float>(random.normal());
            cluster.centre.push_back(std::move(centre));
            cluster.impact.push_back(std::move(impact));
            cluster.tokens.emplace_back(n, 1);
        }
    }
    return plan;
}

/// Takes the logit of an expert away at one position of one layer: the next one comes in its place.
/// Of softmax routers that do not renormalise, the others' weights change too.
struct Removal final : Intervention {
    Removal(int layer_, int64_t position_, int expert_)
        : layer(layer_), position(position_), expert(expert_) {}
    int layer;
    int64_t position;
    int expert;
    bool touches(int l) const override { return l == layer; }
    void before_route(int, const RowInfo& rows, MatrixView<float> logits) override {
        for (int64_t t = 0; t < logits.rows; ++t)
            if (rows.positions[static_cast<size_t>(t)] == position) logits(t, expert) = -1e4f;
    }
};

/// Random token ids, the first the begin token.
inline std::vector<int32_t> random_tokens(const ModelConfig& config, int count, uint64_t seed = 7) {
    Random random(seed);
    std::vector<int32_t> ids{1};
    while (static_cast<int>(ids.size()) < count)
        ids.push_back(static_cast<int32_t>(random.below(config.vocab)));
    return ids;
}

}  // namespace muster::testing
