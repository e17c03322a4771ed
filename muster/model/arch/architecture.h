// SPDX-License-Identifier: Apache-2.0
// What a model architecture is: how its GGUF file says the shape, and where its tensors are.
// Internal to model/.
#pragma once

#include <set>
#include <span>
#include <string>
#include <string_view>

#include "muster/checkpoint/weight_map.h"
#include "muster/model/model.h"

namespace muster {

/// The tensors of a file, for the time of binding. It keeps account of those that were read, since
/// what a file holds beyond them would be missing from every result.
class TensorReader {
  public:
    explicit TensorReader(const WeightMap& file) : file_(file) {}

    const WeightMap& file() const noexcept { return file_; }
    bool has_tensor(std::string_view name) const { return file_.has_tensor(name); }
    /// WeightMap::tensor
    const TensorView& tensor(std::string_view name, const std::vector<int64_t>& shape);
    /// The file may have this tensor, though it is not read.
    void pass_over(std::string_view name) { read_.emplace(name); }
    /// Throws Error naming the first tensor that was neither read nor passed over.
    void refuse_unread(std::string_view architecture) const;

  private:
    const WeightMap& file_;
    std::set<std::string, std::less<>> read_;
};

struct Architecture {
    std::string_view name;  ///< general.architecture
    /// The shape, from metadata; throws Error naming the key. `vocab` is left to the caller.
    ModelConfig (*read_config)(const WeightMap& file);
    /// Views of the tensors, shapes checked; throws Error naming the tensor.
    void (*bind)(TensorReader& file, const ModelConfig& config, ModelWeights& weights);
};

extern const Architecture kOlmoe;
extern const Architecture kMuster;
extern const Architecture kQwen3Moe;
extern const Architecture kQwen2Moe;
extern const Architecture kLlama;
extern const Architecture kGraniteMoe;
extern const Architecture kGptOss;
extern const Architecture kDeepSeek2;

/// Makes the keys of LatentWeights::whole, where there is one. The product that takes queries into
/// the latent's space needs its columns; they are transposed once, and kept in f32, so that nothing
/// is rounded a second time. Throws std::bad_alloc.
void transpose_keys(LatentWeights& weights);

/// All of them; a new architecture gets its line in architecture.cpp.
std::span<const Architecture* const> architectures() noexcept;

/// A family's metadata: keys without the architecture's prefix. Every function throws Error naming
/// the key.
class Keys {
  public:
    Keys(const WeightMap& file, std::string_view architecture)
        : file_(file), prefix_(std::string(architecture) + ".") {}

    const WeightMap& file() const noexcept { return file_; }
    std::string full(std::string_view key) const { return prefix_ + std::string(key); }
    bool has(std::string_view key) const { return file_.has(full(key)); }
    int integer(std::string_view key, int64_t low, int64_t high) const {
        return static_cast<int>(file_.integer(full(key), low, high));
    }
    int integer_or(std::string_view key, int64_t low, int64_t high, int fallback) const {
        return has(key) ? integer(key, low, high) : fallback;
    }
    float real(std::string_view key) const;  ///< finite
    float real_or(std::string_view key, float fallback) const {
        return has(key) ? real(key) : fallback;
    }
    float positive_or(std::string_view key, float fallback) const {
        const float value = real_or(key, fallback);
        return value > 0 ? value : refuse(key, "is not a number above 0");
    }
    float real_or(std::string_view key, float low, float high, float fallback) const;
    /// An even number.
    int even_or(std::string_view key, int64_t low, int64_t high, int fallback) const;
    /// Throws Error: the key, and what is wrong with it.
    [[noreturn]] float refuse(std::string_view key, const std::string& what) const;

  private:
    const WeightMap& file_;
    std::string prefix_;
};

/// Largest dimension that a key may name.
inline constexpr int kMostDimension = 1 << 24;

/// What all decoders of llama.cpp have: layers (as many as block_count, still empty), width,
/// numbers of heads, norms, RoPE and its scaling, whether head and embedding are one. No q/k norms;
/// silu, gated.
ModelConfig read_frame(const Keys& keys, std::string_view architecture);
/// The same with the dimensions and biases of ordinary heads.
ModelConfig read_decoder(const Keys& keys, std::string_view architecture);
/// A layer of expert_count equal experts, expert_used_count of them taken: softmax, top-k.
FeedForwardConfig read_experts(const Keys& keys, int width, Weighting weight);

/// Tensors that several architectures have in common. Each throws Error naming the tensor.
namespace binding {

/// A weight matrix [rows, cols] in a format that products understand.
WeightMatrix matrix(TensorReader& file, std::string_view name, int64_t rows, int64_t cols);
/// `count` weight matrices [rows, cols] that stand behind each other in one tensor.
std::vector<WeightMatrix> matrices(TensorReader& file, std::string_view name, int64_t count,
                                   int64_t rows, int64_t cols);
/// A vector of `size` f32 values; `count` of them in one tensor.
std::span<const float> vector(TensorReader& file, std::string_view name, int64_t size);
std::span<const float> vectors(TensorReader& file, std::string_view name, int64_t count,
                               int64_t size);
/// blk.{layer}.{rest}
std::string layer_name(int layer, std::string_view rest);
/// Embedding, final norm and head; without output.weight the head is the embedding when
/// `tied_allowed`.
void bind_ends(TensorReader& file, const ModelConfig& config, bool tied_allowed,
               ModelWeights& weights);
/// Router of a layer that has one, and its bias.
void bind_router(TensorReader& file, const ModelConfig& config, int layer, LayerWeights& weights);
/// Norms, attention and router of a layer, with the biases of the attention that the file has,
/// where the model has some; `feed_forward_norm` names the second norm.
void bind_layer(TensorReader& file, const ModelConfig& config, int layer, LayerWeights& weights,
                std::string_view feed_forward_norm = "ffn_norm.weight");
/// The one feed-forward of a dense layer, ffn_{gate,up,down}; the shared experts of others,
/// ffn_{gate,up,down}_shexp, where there are any, with their gate.
void bind_dense(TensorReader& file, const ModelConfig& config, int layer, LayerWeights& weights);
void bind_shared(TensorReader& file, const ModelConfig& config, int layer, LayerWeights& weights);
/// ffn_{gate,up,down}_exps, or ffn_{gate_up,down}_exps, of a layer with experts of one width, and
/// their biases. Matrices may also stand in tensors of their own, ffn_{gate,up,down}.E.weight:
/// files of Mixtral from before 2024-04, and Hugging Face's.
void bind_stacked_experts(TensorReader& file, const ModelConfig& config, int layer,
                          LayerWeights& weights);
/// One expert of tensors {prefix}ffn_{gate,up,down}{suffix}.weight.
Expert bind_expert(TensorReader& file, const ModelConfig& config, int layer, int width,
                   std::string_view suffix);

/// Fills what the file says of muster.routing.policy, muster.mean_experts and, when
/// muster.router.selection is there, the router specs from muster.router.* arrays, [layers] each.
void read_routing(const WeightMap& file, ModelConfig& config);
bool has_routing(const WeightMap& file);

}  // namespace binding

}  // namespace muster
