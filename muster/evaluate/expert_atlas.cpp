// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/expert_atlas.h"

#include <algorithm>

#include "muster/evaluate/statistics_sink.h"

namespace muster {

int ExpertAtlas::moe_layers() const noexcept {
    return static_cast<int>(std::count_if(layers.begin(), layers.end(),
                                          [](const auto& l) { return l.num_experts() > 0; }));
}

double ExpertAtlas::mean_experts(size_t token) const {
    double sum = 0;
    for (const LayerAtlas& layer : layers)
        if (layer.num_experts() > 0) sum += layer.experts[token];
    const int n = moe_layers();
    return n > 0 ? sum / n : 0;
}

AtlasCollector::AtlasCollector(const Model& model, const RoutingPolicy& policy) : model_(model) {
    RoutingStatistics empty = empty_statistics(model);
    atlas_.model = empty.model;
    atlas_.policy = policy.to_string();
    atlas_.parameters = count_parameters(model.config()).total;
    for (LoadStatistics& load : empty.layers) {
        const size_t experts = load.load.size();
        LayerAtlas& layer = atlas_.layers.emplace_back();
        layer.load = std::move(load);
        layer.pairs.resize(experts * experts);
    }
}

void AtlasCollector::document(const Document& document, std::span<const int32_t> tokens) {
    const std::string name = document.domain.empty() ? "text" : document.domain;
    const auto [found, is_new] = domains_.emplace(name, static_cast<int>(atlas_.domains.size()));
    domain_ = found->second;
    if (is_new) {
        atlas_.domains.push_back(name);
        atlas_.domain_tokens.push_back(0);
        for (LayerAtlas& layer : atlas_.layers)
            layer.by_domain.resize(layer.by_domain.size() + layer.load.load.size());
    }
    characters_ = {};
    AtlasDocument entry{domain_, "", atlas_.tokens(), 0};
    // A begin token has no bytes in running text.
    if (!tokens.empty())
        entry.lead = characters_.push(model_.tokenizer().token_bytes(tokens.front()));
    atlas_.documents.push_back(std::move(entry));
}

uint32_t AtlasCollector::string_index(std::string text) {
    const auto next = static_cast<uint32_t>(atlas_.strings.size());
    const auto [found, is_new] = strings_.emplace(std::move(text), next);
    if (is_new) atlas_.strings.push_back(found->first);
    return found->second;
}

void AtlasCollector::token(const ScoredToken& token) {
    for (size_t l = 0; l < token.layers.size(); ++l) {
        LayerAtlas& layer = atlas_.layers[l];
        const auto experts = static_cast<size_t>(layer.num_experts());
        if (experts == 0) continue;
        const LayerRoutes& routes = token.layers[l];
        layer.load.add(static_cast<int>(experts), routes.experts, routes.weights);
        layer.load.add_loss(routes.experts, token.loss);
        layer.entropy += routes.entropy;
        layer.experts.push_back(static_cast<uint16_t>(routes.experts.size()));
        for (size_t i = 0; i < routes.experts.size(); ++i) {
            const auto a = static_cast<size_t>(routes.experts[i]);
            ++layer.by_domain[static_cast<size_t>(domain_) * experts + a];
            for (size_t j = 0; j < i; ++j) {
                const auto b = static_cast<size_t>(routes.experts[j]);
                ++layer.pairs[std::min(a, b) * experts + std::max(a, b)];
            }
        }
    }
    atlas_.losses.push_back(token.loss);
    atlas_.text.push_back(string_index(characters_.push(model_.tokenizer().token_bytes(token.id))));
    ++atlas_.domain_tokens[static_cast<size_t>(domain_)];
    ++atlas_.documents.back().tokens;
}

}  // namespace muster
