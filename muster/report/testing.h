// SPDX-License-Identifier: Apache-2.0
// For tests: an atlas of random routes, and results of an evaluation.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "muster/core/random.h"
#include "muster/evaluate/expert_atlas.h"
#include "muster/evaluate/perplexity.h"

namespace muster::testing {

struct AtlasShape {
    int layers = 3, experts = 8, tokens = 600, domains = 3;
    int least = 1, most = 3;  ///< experts per token
};

/// A token's experts grow with its loss, and each domain prefers an expert of the last layer.
inline ExpertAtlas random_atlas(const AtlasShape& shape, uint64_t seed = 1) {
    Random random(seed);
    ExpertAtlas atlas;
    atlas.model = "tiny <b>&amp; \"quoted\"";
    atlas.policy = "model";
    atlas.parameters = 1000000;
    atlas.strings = {" the", "a", "<script>", "\n", "\xC3\xA9", "", "</script>", "\xFF"};
    const auto E = static_cast<size_t>(shape.experts);
    for (int l = 0; l < shape.layers; ++l) {
        LayerAtlas& layer = atlas.layers.emplace_back();
        layer.load.load.resize(E);
        layer.load.weight.resize(E);
        layer.load.scored.resize(E);
        layer.load.loss.resize(E);
        layer.pairs.resize(E * E);
        layer.by_domain.resize(E * static_cast<size_t>(shape.domains));
    }
    const int each = shape.tokens / shape.domains;
    for (int d = 0; d < shape.domains; ++d) {
        atlas.domains.push_back("domain" + std::to_string(d));
        atlas.domain_tokens.push_back(each);
        atlas.documents.push_back(
            {d, "<lead>", static_cast<size_t>(d) * each, static_cast<size_t>(each)});
    }
    std::vector<int32_t> experts;
    std::vector<float> weights;
    for (int t = 0; t < each * shape.domains; ++t) {
        const int domain = t / each;
        const double hard = random.uniform();
        atlas.losses.push_back(static_cast<float>(8 * hard));
        atlas.text.push_back(static_cast<uint32_t>(random.below(atlas.strings.size())));
        for (int l = 0; l < shape.layers; ++l) {
            LayerAtlas& layer = atlas.layers[l];
            const int count = std::clamp(
                shape.least +
                    static_cast<int>(hard * (shape.most - shape.least) + random.uniform()),
                shape.least, shape.most);
            experts.clear();
            if (l + 1 == shape.layers) experts.push_back(domain % shape.experts);
            while (static_cast<int>(experts.size()) < count) {
                const auto e = static_cast<int32_t>(random.below(E));
                if (std::find(experts.begin(), experts.end(), e) == experts.end())
                    experts.push_back(e);
            }
            weights.assign(experts.size(), 0.5f);
            layer.load.add(shape.experts, experts, weights);
            layer.load.add_loss(experts, atlas.losses.back());
            layer.entropy += 1;
            layer.experts.push_back(static_cast<uint16_t>(experts.size()));
            for (const int32_t e : experts) ++layer.by_domain[static_cast<size_t>(domain) * E + e];
            for (size_t i = 1; i < experts.size(); ++i) {
                const auto a = static_cast<size_t>(experts[0]), b = static_cast<size_t>(experts[i]);
                ++layer.pairs[std::min(a, b) * E + std::max(a, b)];
            }
        }
    }
    return atlas;
}

inline EvaluationResult three_policies() {
    EvaluationResult result;
    result.units = 30;
    result.unit = "documents";
    result.threads = 2;
    const auto add = [&](const char* name, double experts, double difference, double speed) {
        PolicyResult p;
        p.policy = name;
        p.all.tokens = 1000;
        p.all.loss = 3 + difference;
        p.all.perplexity = 20 * (1 + difference);
        p.all.experts = experts;
        p.activated = 1e6 * experts;
        p.tokens_per_second = speed;
        p.difference = {difference, difference - 0.01, difference + 0.01};
        result.policies.push_back(p);
    };
    add("model", 2, 0, 100);
    add("top-k:1", 1, 0.2, 150);
    add("bad<&", 3, 0.1, 80);
    result.policies[0].difference = {};
    return result;
}

}  // namespace muster::testing
