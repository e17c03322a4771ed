// SPDX-License-Identifier: Apache-2.0
// The families of Hugging Face checkpoints that have a GGUF architecture. Internal to checkpoint/.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "muster/checkpoint/hf_layout.h"
#include "muster/checkpoint/weight_map.h"

namespace muster {

/// How a family's experts are stored in Hugging Face's layout.
enum class HfExperts : uint8_t { none, list, mixtral, granite, gpt_oss };

struct HfFamily {
    std::string_view hf;          ///< config.json's architectures[0]
    std::string_view gguf;        ///< general.architecture
    std::string_view model_type;  ///< config.json's
    HfExperts experts = HfExperts::none;
    bool permuted = false;         ///< rotary pairs (2 i, 2 i + 1) in GGUF, (i, i + half) here
    std::string_view router = {};  ///< in a layer, without `.weight`
    std::string_view shared = {};  ///< prefix of the shared experts in a layer; empty: none
    bool shared_gate = false;      ///< shared_expert_gate
    char qk_norm = 0;              ///< 0: none, 'h': of each head, 'a': of all heads at once
    bool latent = false;           ///< multi-head latent attention
    std::string_view ffn_norm = "ffn_norm";
};

/// By the class name of config.json; throws Error with those known.
const HfFamily& hf_family(std::string_view architecture, std::string_view where);
/// That a GGUF model is written as; throws Error when there is none.
const HfFamily& hf_family_of(const WeightMap& model);
/// Class names, those of dense models last.
std::vector<std::string_view> hf_architectures();

/// What decides tensors' shapes, from GGUF's keys.
struct HfShape {
    const HfFamily* family = nullptr;
    int64_t vocab = 0, d = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0;
    int64_t experts = 0;  ///< 0: dense layers only
    int64_t expert_width = 0, dense_width = 0, shared_width = 0;
    int64_t dense_layers = 0;  ///< how many come before the first with experts
    int64_t query_rank = 0, kv_rank = 0, nope = 0, rope = 0, value = 0;  ///< latent attention

    bool dense(int64_t layer) const noexcept { return experts == 0 || layer < dense_layers; }
};

/// Throws Error naming the key that is missing or out of range.
HfShape hf_shape(const WeightMap& model, const HfFamily& family);

/// Which tensors of those that a family may have are there: asked with both names.
using HfPresence = std::function<bool(std::string_view hf, std::string_view gguf)>;

/// All tensors of a model. `present` decides what is optional (head, biases, selection bias) and
/// between layouts: of Hugging Face's, where that is what is read (`reading`).
std::vector<Correspondence> hf_correspondences(const HfShape& shape, const HfPresence& present,
                                               bool reading, bool mxfp4);

}  // namespace muster
