// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "muster/core/error.h"
#include "muster/core/json_fault.h"
#include "muster/routing/hash_text.h"
#include "muster/routing/statistics.h"

namespace muster {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr int kVersion = 1;
constexpr int64_t kMostTokens = int64_t{1} << 53;  // beyond, sums would not be exact
constexpr const char* kNoCount = "holds a number that is negative or too large";

/// A member of the right type; throws json::exception, which the caller turns into an Error.
template <typename T>
std::vector<T> column(const json& layer, const char* key, size_t experts) {
    auto values = layer.at(key).get<std::vector<T>>();
    if (values.size() != experts)
        throw Error(key, fmt::format("has {} values, expected {}", values.size(), experts));
    for (const T v : values)
        if (!std::isfinite(static_cast<double>(v)) || (std::is_integral_v<T> && v < 0))
            throw Error(key, "holds a value that is negative or not finite");
    return values;
}

LoadStatistics layer_from(const json& layer) {
    LoadStatistics s;
    s.tokens = layer.at("tokens").get<int64_t>();
    if (s.tokens < 0 || s.tokens > kMostTokens) throw Error("tokens", kNoCount);
    const size_t experts = layer.at("activations").size();
    s.load = column<int64_t>(layer, "activations", experts);
    s.weight = column<double>(layer, "weight", experts);
    s.scored = column<int64_t>(layer, "scored", experts);
    s.loss = column<double>(layer, "loss", experts);
    for (size_t e = 0; e < experts; ++e)
        if (s.load[e] > s.tokens || s.scored[e] > s.load[e])
            throw Error("activations", "are more than the layer's tokens allow");
    if (experts == 0 && s.tokens > 0) throw Error("tokens", "were counted in a dense layer");
    return s;
}

}  // namespace

void RoutingStatistics::merge(const RoutingStatistics& other, std::string_view where) {
    bool alike = layers.size() == other.layers.size();
    for (size_t l = 0; alike && l < layers.size(); ++l)
        alike = layers[l].load.size() == other.layers[l].load.size();
    if (model_hash == other.model_hash && !alike)
        throw Error(where, "is damaged: its layers are not those of the model, expected " +
                               std::to_string(layers.size()) + " with their experts");
    if (model_hash != other.model_hash)
        throw Error(where, fmt::format("holds statistics of another model ({}, hash {}), expected "
                                       "those of {} (hash {})",
                                       other.model, hash_text(other.model_hash), model,
                                       hash_text(model_hash)));
    for (size_t l = 0; l < layers.size(); ++l) layers[l].merge(other.layers[l]);
    for (const auto& [policy, tokens] : other.policies) policies[policy] += tokens;
}

std::string to_json(const RoutingStatistics& statistics) {
    ordered_json layers = ordered_json::array();
    for (const LoadStatistics& s : statistics.layers) {
        const auto n = s.load.size();
        layers.push_back({{"tokens", s.tokens},
                          {"activations", s.load},
                          {"weight", s.weight},
                          {"scored", s.scored.empty() ? std::vector<int64_t>(n) : s.scored},
                          {"loss", s.loss.empty() ? std::vector<double>(n) : s.loss}});
    }
    ordered_json policies = ordered_json::object();
    for (const auto& [policy, tokens] : statistics.policies) policies[policy] = tokens;
    const ordered_json out = {
        {"format", "muster-statistics"}, {"version", kVersion},
        {"model", statistics.model},     {"model_hash", hash_text(statistics.model_hash)},
        {"policies", policies},          {"layers", layers}};
    return out.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

RoutingStatistics statistics_from_json(std::string_view text, std::string_view where) {
    const json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!document.is_object() || document.value("format", json()) != "muster-statistics")
        throw Error(where, "is no statistics file, expected the format muster-statistics");
    if (document.value("version", json()) != kVersion)
        throw Error(where, fmt::format("has another version, expected {}", kVersion));
    RoutingStatistics out;
    try {
        out.model = document.at("model").get<std::string>();
        const auto hash = hash_from(document.at("model_hash").get<std::string>());
        if (!hash) throw Error("model_hash", "has not 16 hexadecimal digits");
        out.model_hash = *hash;
        out.policies = document.at("policies").get<std::map<std::string, int64_t>>();
        for (const auto& [policy, tokens] : out.policies)
            if (tokens < 0 || tokens > kMostTokens) throw Error("policies", kNoCount);
        for (const json& layer : document.at("layers")) out.layers.push_back(layer_from(layer));
    } catch (const json::exception& e) {
        throw Error(where, "is damaged: " + json_fault(e));
    } catch (const Error& e) {
        throw Error(where, std::string("is damaged: ") + e.what());
    }
    return out;
}

std::string to_csv(const RoutingStatistics& statistics) {
    std::string out =
        "layer,expert,tokens,activations,share,weight,mean_weight,scored,loss,mean_loss\n";
    for (size_t l = 0; l < statistics.layers.size(); ++l) {
        const LoadStatistics& s = statistics.layers[l];
        const auto total = static_cast<double>(s.activations());
        for (size_t e = 0; e < s.load.size(); ++e) {
            const auto n = static_cast<double>(s.load[e]);
            const int64_t scored = s.scored.empty() ? 0 : s.scored[e];
            const double loss = s.loss.empty() ? 0 : s.loss[e];
            out += fmt::format("{},{},{},{},{:.6g},{:.6g},{},{},{:.6g},{}\n", l, e, s.tokens,
                               s.load[e], total > 0 ? n / total : 0, s.weight[e],
                               n > 0 ? fmt::format("{:.6g}", s.weight[e] / n) : "", scored, loss,
                               scored > 0 ? fmt::format("{:.6g}", loss / double(scored)) : "");
        }
    }
    return out;
}

}  // namespace muster
