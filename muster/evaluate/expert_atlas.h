// SPDX-License-Identifier: Apache-2.0
// What a person may want to see of the experts at work on some texts: sums over tokens, and a few
// numbers per token.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "muster/core/stats.h"
#include "muster/evaluate/token_sink.h"
#include "muster/generate/utf8_stream.h"
#include "muster/model/model.h"
#include "muster/routing/statistics.h"

namespace muster {

/// One MoE layer. In a dense layer all is empty.
struct LayerAtlas {
    LoadStatistics load;
    double entropy = 0;              ///< summed over tokens
    std::vector<uint16_t> experts;   ///< [T] how many worked for each token
    std::vector<int64_t> by_domain;  ///< [D, E] activations
    std::vector<int64_t> pairs;      ///< [E, E], a < b: tokens that activated both
    int num_experts() const noexcept { return static_cast<int>(load.load.size()); }
    int64_t pair(int a, int b) const {
        return pairs[static_cast<size_t>(a) * load.load.size() + b];
    }
};

struct AtlasDocument {
    int domain = 0;
    std::string lead;  ///< the text before the first token that has a prediction
    size_t first = 0;  ///< its first token of [T]
    size_t tokens = 0;
};

struct ExpertAtlas {
    std::string model;   ///< its name
    std::string policy;  ///< under which the tokens were scored
    int64_t parameters = 0;
    std::vector<std::string> domains;    ///< [D]; texts without a label are "text"
    std::vector<int64_t> domain_tokens;  ///< [D]
    std::vector<AtlasDocument> documents;
    std::vector<LayerAtlas> layers;    ///< [L]
    std::vector<float> losses;         ///< [T] nats
    std::vector<std::string> strings;  ///< distinct texts of tokens, complete characters only
    std::vector<uint32_t> text;        ///< [T] of `strings`

    size_t tokens() const noexcept { return losses.size(); }
    int moe_layers() const noexcept;
    /// Routed experts of a token, mean over MoE layers; 0 without any.
    double mean_experts(size_t token) const;
};

/// Gathers an atlas from an evaluation.
class AtlasCollector final : public TokenSink {
  public:
    /// `model` outlives it.
    AtlasCollector(const Model& model, const RoutingPolicy& policy);
    void document(const Document& document, std::span<const int32_t> tokens) override;
    void token(const ScoredToken& token) override;
    const ExpertAtlas& atlas() const { return atlas_; }

  private:
    uint32_t string_index(std::string text);

    const Model& model_;
    ExpertAtlas atlas_;
    std::map<std::string, int> domains_;
    std::map<std::string, uint32_t> strings_;
    Utf8Stream characters_;
    int domain_ = 0;
};

/// A tenth (or another share) of the tokens, by loss.
struct DifficultyBin {
    double low = 0, high = 0;  ///< its least and greatest loss, nats
    int64_t tokens = 0;
    Interval experts;  ///< per token, mean over MoE layers; bootstrap over blocks of 256 tokens
};

/// Do harder tokens get more? At most `bins` bins of equal size, fewer where tokens are few.
std::vector<DifficultyBin> difficulty(const ExpertAtlas& atlas, int bins = 10);

/// Spearman's rank correlation of loss and experts over tokens, ties sharing their mean rank; 0
/// where one of them does not vary, or with fewer than three tokens.
double difficulty_correlation(const ExpertAtlas& atlas);

/// How much experts prefer domains, domains counted alike whatever their size. With q_e(d) the
/// share of domain d in an expert's activations, each domain's activations scaled to a sum of 1, an
/// expert's score is 1 - H(q_e) / log D: 0 for the same use everywhere, 1 for one domain only. The
/// layer's is the mean over its activations, which equals the mutual information of expert and
/// domain divided by log D.
struct Specialisation {
    std::vector<double> experts;  ///< [E]; -1 where nothing was activated
    double layer = 0;
    /// What `layer` would be on average if experts had no preference, for independent activations
    /// (first-order bias of plug-in entropies, Miller 1955).
    double chance = 0;
};

/// All zero with fewer than two domains.
Specialisation specialisation(const ExpertAtlas& atlas, int layer);

struct ExpertPair {
    int a = 0, b = 0;
    int64_t tokens = 0;  ///< that activated both
    double lift = 0;     ///< tokens / those expected if both were chosen independently
    double z = 0;        ///< (tokens - expected) / sqrt(expected)
};

/// The pairs whose co-activation is furthest above chance (greatest z), at most `count`.
std::vector<ExpertPair> frequent_pairs(const LayerAtlas& layer, int count);

}  // namespace muster
