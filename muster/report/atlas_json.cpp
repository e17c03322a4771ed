// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "muster/core/error.h"
#include "muster/report/atlas_page.h"
#include "muster/report/packed.h"

namespace muster {
namespace {

using nlohmann::ordered_json;

constexpr int kPairs = 20;          // listed per layer
constexpr int kMatrixExperts = 64;  // layers with more have no matrix of pairs, only the list

/// Not finite: null. Rounded, for a page needs no more.
ordered_json number(double v) {
    if (!std::isfinite(v)) return nullptr;
    if (v == 0) return 0;
    const double scale = std::pow(10, 5 - std::floor(std::log10(std::abs(v))));
    return std::round(v * scale) / scale;
}

ordered_json numbers(const std::vector<double>& values) {
    ordered_json out = ordered_json::array();
    for (const double v : values) out.push_back(number(v));
    return out;
}

ordered_json packed_json(std::span<const uint32_t> values) {
    const PackedIntegers p = pack_integers(values);
    if (p.bits == 0) return {{"constant", p.low}};
    return {{"low", p.low}, {"bits", p.bits}, {"data", p.data}};
}

ordered_json tokens_json(const ExpertAtlas& atlas) {
    std::vector<uint32_t> loss;
    loss.reserve(atlas.tokens());
    for (const float l : atlas.losses)  // a loss of more than 65 nats is as good as that
        loss.push_back(static_cast<uint32_t>(std::lround(std::clamp(l, 0.0f, 65.0f) * 1000)));
    ordered_json layers = ordered_json::array();
    for (const LayerAtlas& layer : atlas.layers) {
        if (layer.num_experts() == 0) {
            layers.push_back(nullptr);
            continue;
        }
        layers.push_back(
            packed_json(std::vector<uint32_t>(layer.experts.begin(), layer.experts.end())));
    }
    return {{"count", atlas.tokens()},
            {"strings", atlas.strings},
            {"text", packed_json(atlas.text)},
            {"loss", packed_json(loss)},
            {"layers", layers}};
}

/// [max + 1] how many tokens have so many experts.
std::vector<int64_t> histogram(const LayerAtlas& layer) {
    std::vector<int64_t> out(*std::max_element(layer.experts.begin(), layer.experts.end()) + 1);
    for (const uint16_t n : layer.experts) ++out[n];
    return out;
}

/// A byte per pair a < b, by rows: 0 never together, else 128 + 32 log2(lift) within 1 to 255.
std::string lift_matrix(const LayerAtlas& layer) {
    std::vector<uint8_t> bytes;
    const auto tokens = static_cast<double>(layer.load.tokens);
    for (int a = 0; a < layer.num_experts(); ++a) {
        for (int b = a + 1; b < layer.num_experts(); ++b) {
            const auto n = static_cast<double>(layer.pair(a, b));
            const double expected = static_cast<double>(layer.load.load[a]) *
                                    static_cast<double>(layer.load.load[b]) / tokens;
            const double step = n > 0 ? 128 + 32 * std::log2(n / expected) : 0;
            bytes.push_back(n > 0 ? static_cast<uint8_t>(std::clamp(std::lround(step), 1L, 255L))
                                  : 0);
        }
    }
    return base64(bytes);
}

/// Per expert a sum divided by a count; null where nothing was counted.
ordered_json means(const std::vector<double>& sums, const std::vector<int64_t>& counts) {
    ordered_json out = ordered_json::array();
    for (size_t e = 0; e < sums.size(); ++e)
        out.push_back(counts[e] > 0 ? number(sums[e] / static_cast<double>(counts[e])) : nullptr);
    return out;
}

ordered_json domains_json(const ExpertAtlas& atlas, const LayerAtlas& layer, ordered_json& means) {
    const auto experts = static_cast<size_t>(layer.num_experts());
    ordered_json rows = ordered_json::array();
    for (size_t d = 0; d < atlas.domains.size(); ++d) {
        const auto begin = layer.by_domain.begin() + static_cast<std::ptrdiff_t>(d * experts);
        const std::vector<int64_t> row(begin, begin + static_cast<std::ptrdiff_t>(experts));
        double sum = 0;
        for (const int64_t n : row) sum += static_cast<double>(n);
        means.push_back(
            number(sum / static_cast<double>(std::max<int64_t>(1, atlas.domain_tokens[d]))));
        rows.push_back(row);
    }
    return rows;
}

ordered_json layer_json(const ExpertAtlas& atlas, int l) {
    const LayerAtlas& layer = atlas.layers[l];
    if (layer.num_experts() == 0) return nullptr;
    const LoadStatistics& load = layer.load;
    const Specialisation score = specialisation(atlas, l);
    ordered_json scores = ordered_json::array(), pairs = ordered_json::array();
    for (const double s : score.experts) scores.push_back(s < 0 ? nullptr : number(s));
    for (const ExpertPair& p : frequent_pairs(layer, kPairs))
        pairs.push_back({p.a, p.b, p.tokens, number(p.lift), number(p.z)});
    ordered_json domain_means = ordered_json::array();
    ordered_json rows = domains_json(atlas, layer, domain_means);
    const double most = std::log(static_cast<double>(layer.num_experts()));
    ordered_json out = {
        {"load", load.load},
        {"weight", means(load.weight, load.load)},
        {"loss", means(load.loss, load.scored)},
        {"mean", number(load.experts_per_token())},
        {"entropy", number(layer.entropy / static_cast<double>(std::max<int64_t>(1, load.tokens)))},
        {"variation", number(load.coefficient_of_variation())},
        {"load_entropy", number(load.entropy() / most)},
        {"histogram", histogram(layer)},
        {"by_domain", std::move(rows)},
        {"domain_mean", std::move(domain_means)},
        {"specialisation",
         {{"experts", scores}, {"layer", number(score.layer)}, {"chance", number(score.chance)}}},
        {"pairs", pairs}};
    if (layer.num_experts() <= kMatrixExperts && !pairs.empty()) out["lift"] = lift_matrix(layer);
    return out;
}

ordered_json difficulty_json(const ExpertAtlas& atlas) {
    ordered_json bins = ordered_json::array();
    for (const DifficultyBin& b : difficulty(atlas))
        bins.push_back({{"low", number(b.low)},
                        {"high", number(b.high)},
                        {"tokens", b.tokens},
                        {"experts", number(b.experts.mean)},
                        {"experts_low", number(b.experts.low)},
                        {"experts_high", number(b.experts.high)}});
    return {{"bins", bins}, {"correlation", number(difficulty_correlation(atlas))}};
}

ordered_json plan_json(const AtlasPlan& plan) {
    ordered_json layers = ordered_json::array(), dormant = ordered_json::array();
    for (const auto& layer : plan.layers) {
        if (!layer) {
            layers.push_back(nullptr);
            continue;
        }
        ordered_json impacts = ordered_json::array();
        for (const auto& i : layer->impacts)
            impacts.push_back(i ? numbers({i->mean, i->low, i->high}) : nullptr);
        layers.push_back({{"budget", number(layer->budget)},
                          {"baseline", number(layer->baseline)},
                          {"impacts", impacts}});
    }
    for (const AtlasPlan::Dormant& d : plan.dormant)
        dormant.push_back({{"layer", d.layer},
                           {"expert", d.expert},
                           {"impact", number(d.impact)},
                           {"rank", number(d.rank)},
                           {"tokens", d.tokens}});
    return {{"name", plan.name}, {"layers", layers}, {"dormant", dormant}};
}

}  // namespace

std::string atlas_json(const AtlasPage& page) {
    const ExpertAtlas& atlas = page.atlas;
    MUSTER_ASSERT(page.plan == nullptr || page.plan->layers.size() == atlas.layers.size());
    ordered_json domains = ordered_json::array(), documents = ordered_json::array();
    for (size_t d = 0; d < atlas.domains.size(); ++d)
        domains.push_back({{"name", atlas.domains[d]}, {"tokens", atlas.domain_tokens[d]}});
    for (const AtlasDocument& d : atlas.documents)
        documents.push_back(
            {{"domain", d.domain}, {"lead", d.lead}, {"first", d.first}, {"tokens", d.tokens}});
    ordered_json layers = ordered_json::array();
    for (size_t l = 0; l < atlas.layers.size(); ++l)
        layers.push_back(layer_json(atlas, static_cast<int>(l)));
    ordered_json out = {
        {"format", "muster-atlas"},
        {"version", 1},
        {"model",
         {{"name", atlas.model}, {"policy", atlas.policy}, {"parameters", atlas.parameters}}},
        {"domains", domains},
        {"documents", documents},
        {"tokens", tokens_json(atlas)},
        {"layers", layers},
        {"difficulty", difficulty_json(atlas)},
        {"evaluation", nullptr},
        {"plan", nullptr}};
    if (page.evaluation != nullptr)
        out["evaluation"] = ordered_json::parse(to_json(*page.evaluation));
    if (page.plan != nullptr) out["plan"] = plan_json(*page.plan);
    return out.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace muster
