// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <vector>

#include "muster/model/config.h"
#include "muster/train/moe.h"

namespace muster::train {

struct LanguageModelOptions {
    ModelConfig config;
    RouterLossWeights losses;
    Compute compute = Compute::f32;
    uint64_t seed = 0;
};

/// A decoder block: x + attention(norm(x)), then + moe(norm(.)); RMSNorm, RoPE, q/k norm, grouped
/// heads.
class BlockImpl : public torch::nn::Module {
  public:
    BlockImpl(const LanguageModelOptions& options, int layer);
    /// x: [sequences * length, d]; ids: the token ids, same order.
    at::Tensor forward(const at::Tensor& x, int64_t length, const at::Tensor& ids);

    at::Tensor attention_norm, query, key, value, output, query_norm, key_norm, feed_forward_norm;
    MoE moe{nullptr};

  private:
    at::Tensor attention(const at::Tensor& x, int64_t length) const;
    at::Tensor normed_heads(const at::Tensor& x, const at::Tensor& weight) const;

    ModelConfig config_;
    Compute compute_;
};
TORCH_MODULE(Block);

/// The decoder language model that `muster train` trains; its checkpoints are what the engine
/// exports.
class LanguageModelImpl : public torch::nn::Module {
  public:
    explicit LanguageModelImpl(const LanguageModelOptions& options);

    /// ids: [sequences, length] int64 -> logits [sequences * length, vocab].
    at::Tensor forward(const at::Tensor& ids);
    /// Sum of the layers' weighted auxiliary losses, divided by the number of layers.
    at::Tensor auxiliary_loss() const;

    const ModelConfig& config() const { return options_.config; }
    std::vector<Block>& blocks() { return blocks_; }
    const std::vector<Block>& blocks() const { return blocks_; }

    at::Tensor embedding, final_norm, head;  ///< head is undefined when tied

  private:
    LanguageModelOptions options_;
    std::vector<Block> blocks_;
};
TORCH_MODULE(LanguageModel);

}  // namespace muster::train
