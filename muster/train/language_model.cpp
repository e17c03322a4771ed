// SPDX-License-Identifier: Apache-2.0
#include "muster/train/language_model.h"

#include <ATen/ATen.h>

#include <cmath>

#include "muster/train/attention.h"
#include "muster/train/functions.h"

namespace muster::train {
namespace {

at::Tensor normal(int64_t rows, int64_t cols, double deviation) {
    return at::randn({rows, cols}) * deviation;
}

constexpr double kStd = 0.02;

}  // namespace

BlockImpl::BlockImpl(const LanguageModelOptions& options, int layer)
    : config_(options.config), compute_(options.compute) {
    const ModelConfig& c = config_;
    const int64_t d = c.d_model, q = int64_t{c.heads} * c.head_dim,
                  kv = int64_t{c.kv_heads} * c.head_dim;
    // Residual branches start smaller in deep models (GPT-2): 1 / sqrt(2 layers).
    const double branch = kStd / std::sqrt(2.0 * c.num_layers());
    attention_norm = register_parameter("attention_norm", at::ones({d}));
    feed_forward_norm = register_parameter("feed_forward_norm", at::ones({d}));
    query = register_parameter("query", normal(q, d, kStd));
    key = register_parameter("key", normal(kv, d, kStd));
    value = register_parameter("value", normal(kv, d, kStd));
    output = register_parameter("output", normal(d, q, branch));
    if (c.qk_norm != QkNorm::none) {
        const bool full = c.qk_norm == QkNorm::full;
        query_norm = register_parameter("query_norm", at::ones({full ? q : c.head_dim}));
        key_norm = register_parameter("key_norm", at::ones({full ? kv : c.head_dim}));
    }
    const FeedForwardConfig& ff = c.layers[static_cast<size_t>(layer)];
    MoEOptions moe_options;
    moe_options.d_model = d;
    moe_options.widths = ff.widths;
    moe_options.shared_width = ff.shared_width;
    moe_options.activation = c.activation;
    moe_options.gated = c.gated;
    moe_options.router = ff.router;
    if (!ff.dense()) moe_options.policy = c.policy;
    moe_options.losses = options.losses;
    moe_options.compute = options.compute;
    moe_options.layer = layer;
    moe_options.layers = c.num_layers();
    moe_options.seed = options.seed;
    moe = register_module("moe", MoE(moe_options));
    torch::NoGradGuard no_grad;
    moe->down.mul_(branch / kStd);
}

at::Tensor BlockImpl::normed_heads(const at::Tensor& x, const at::Tensor& weight) const {
    if (config_.qk_norm == QkNorm::none) return x;
    if (config_.qk_norm == QkNorm::full) return rms_norm(x, weight, config_.norm_eps);
    return rms_norm(x.view({-1, config_.head_dim}), weight, config_.norm_eps).view(x.sizes());
}

at::Tensor BlockImpl::attention(const at::Tensor& x, int64_t length) const {
    const ModelConfig& c = config_;
    const bool interleaved = c.rope == RopeLayout::norm;
    at::Tensor q = normed_heads(linear(x, query, compute_), query_norm);
    at::Tensor k = normed_heads(linear(x, key, compute_), key_norm);
    const at::Tensor v = linear(x, value, compute_);
    q = rope(q, c.head_dim, length, c.rope_theta, interleaved);
    k = rope(k, c.head_dim, length, c.rope_theta, interleaved);
    const at::Tensor y =
        causal_attention(q, k, v, {length, c.heads, c.kv_heads, c.head_dim, compute_});
    return linear(y, output, compute_);
}

at::Tensor BlockImpl::forward(const at::Tensor& x, int64_t length, const at::Tensor& ids) {
    const at::Tensor h = x + attention(rms_norm(x, attention_norm, config_.norm_eps), length);
    return h + moe->forward(rms_norm(h, feed_forward_norm, config_.norm_eps), ids);
}

LanguageModelImpl::LanguageModelImpl(const LanguageModelOptions& options) : options_(options) {
    options_.config.check();
    const ModelConfig& c = options_.config;
    embedding = register_parameter("embedding", normal(c.vocab, c.d_model, kStd));
    for (int l = 0; l < c.num_layers(); ++l) {
        blocks_.push_back(register_module("block" + std::to_string(l), Block(options_, l)));
    }
    final_norm = register_parameter("final_norm", at::ones({c.d_model}));
    if (!c.tied_head) head = register_parameter("head", normal(c.vocab, c.d_model, kStd));
}

at::Tensor LanguageModelImpl::forward(const at::Tensor& ids) {
    const at::Tensor flat = ids.reshape({-1});
    at::Tensor x = at::embedding(embedding, flat);
    for (Block& block : blocks_) x = block->forward(x, ids.size(1), flat);
    x = rms_norm(x, final_norm, options_.config.norm_eps);
    return linear(x, head.defined() ? head : embedding, options_.compute);
}

at::Tensor LanguageModelImpl::auxiliary_loss() const {
    at::Tensor sum = at::zeros({});
    for (const Block& block : blocks_) sum = sum + block->moe->auxiliary_loss();
    return sum / static_cast<double>(blocks_.size());
}

}  // namespace muster::train
