// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "muster/checkpoint/weight_map.h"
#include "muster/core/buffer.h"
#include "muster/core/progress.h"
#include "muster/core/tensor_view.h"
#include "muster/experts/expert_bank.h"
#include "muster/model/config.h"
#include "muster/model/panel_weights.h"
#include "muster/routing/router.h"
#include "muster/tokenizer/tokenizer.h"

namespace muster {

/// Weights of multi-head latent attention (LatentAttention), in the absorbed form: a head's query
/// without position is taken into the latent's space, where all heads share one key, and its result
/// out of it. Queries themselves come from LayerWeights::query, [heads * head_dim, d or
/// query_rank].
struct LatentWeights {
    WeightMatrix query_down;                 ///< [query_rank, d], or none
    std::span<const float> query_down_norm;  ///< [query_rank] or none
    WeightMatrix down;                       ///< [kv_rank + turned, d]
    std::span<const float> norm;             ///< [kv_rank]
    std::vector<WeightMatrix> keys;          ///< [heads] of [kv_rank, head_dim - turned]
    std::vector<WeightMatrix> values;        ///< [heads] of [value_dim, kv_rank]
    /// Where the file has the keys' matrices the other way round: its attn_kv_b, or none, and what
    /// `keys` views, which have no data before Model::load() has made them of it.
    WeightMatrix whole;
    Buffer<float> transposed_keys;
};

/// Weights of one layer. Matrices and norms point into the mapped file, but for transposed_keys.
struct LayerWeights {
    std::span<const float> attention_norm;     ///< [d]
    std::span<const float> query_norm;         ///< [heads * head_dim], [head_dim] or none
    std::span<const float> key_norm;           ///< [kv_heads * head_dim], [head_dim] or none
    std::span<const float> feed_forward_norm;  ///< [d]
    WeightMatrix query, key, value;            ///< [heads or kv_heads * head_dim, d]
    LatentWeights latent;                      ///< instead of key and value, or empty
    WeightMatrix output;                       ///< [d, heads * values of a head]
    std::span<const float> query_bias, key_bias, value_bias;  ///< of their rows, or none
    std::span<const float> output_bias;                       ///< [d] or none
    std::span<const float> sinks;                             ///< [heads] or none
    WeightMatrix router;                                      ///< [E, d]; empty in dense layers
    std::span<const float> router_bias;                       ///< [E] or none
    RouterParameters router_parameters;
    ExpertBank experts;
    ExpertBank shared;                   ///< one expert, or none
    std::span<const float> shared_gate;  ///< [d] or none
};

struct ModelWeights {
    WeightMatrix embedding;               ///< [vocab, d]
    std::span<const float> final_norm;    ///< [d]
    WeightMatrix head;                    ///< [vocab, d]; the embedding when tied
    std::span<const float> rope_factors;  ///< [turned dims / 2] or none
    std::vector<LayerWeights> layers;
};

class Model;

struct LoadOptions {
    /// Reads every tensor once and refuses NaN and infinite weights; without it loading is instant
    /// and damage shows as a refused router logit.
    bool check_values = true;
    Progress progress = {};  ///< may be empty; returning false makes load() throw Error
    /// Where given, weights in block formats are copied into the order of integer products, on its
    /// threads: decoding is several times as fast, and as much memory as the file is large is
    /// taken. Such a model computes under Compute::int8 only.
    Executor* panels = nullptr;
    Executor* executor = nullptr;  ///< makes and checks weights; none: the caller's thread
    /// Called once shape, vocabulary and the places of all weights are known and before a weight is
    /// read: may throw to refuse the model (memory.h), and says whether `panels` is to be used,
    /// where it is given. May be empty.
    std::function<bool(const Model&)> foresee = {};
};

/// A decoder language model in a memory-mapped GGUF file or Hugging Face directory: shape, weights
/// in place, vocabulary.
/// Immutable; any number of threads may run forward passes with contexts of their own.
class Model {
  public:
    /// Throws Error, one sentence, naming what is wrong: a damaged file, an unknown architecture
    /// (with the list of known ones), a missing key or tensor, a shape that does not fit, NaN
    /// weights (naming the tensor), a vocabulary of another size.
    static Model load(const std::filesystem::path& path, const LoadOptions& options = {});

    const ModelConfig& config() const noexcept { return config_; }
    /// Lets policies name `plan` as plan:NAME, in the place of any of that name before. Not while
    /// other threads use the model. Throws Error when it was made for another model or does not
    /// fit this one.
    void add_plan(const std::string& name, ActivationPlan plan);

    const ModelWeights& weights() const noexcept { return weights_; }
    const Tokenizer& tokenizer() const noexcept { return *tokenizer_; }
    const WeightMap& file() const noexcept { return *file_; }
    /// Of metadata, tensor names, shapes, formats and sampled content: tells models apart, so that
    /// caches and plans of another model are refused. Not cryptographic.
    uint64_t hash() const noexcept { return hash_; }
    /// Bytes of weights that were copied into panels; 0: any Compute works.
    size_t panel_bytes() const noexcept { return panels_.bytes(); }

  private:
    Model() = default;

    std::unique_ptr<WeightMap> file_;
    std::unique_ptr<Tokenizer> tokenizer_;
    ModelConfig config_;
    ModelWeights weights_;
    PanelWeights panels_;
    uint64_t hash_ = 0;
};

/// Names of the architectures that load() knows.
std::vector<std::string_view> known_architectures();

}  // namespace muster
