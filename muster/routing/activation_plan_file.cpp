// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/json_fault.h"
#include "muster/routing/activation_plan.h"
#include "muster/routing/hash_text.h"

namespace muster {
namespace {

using nlohmann::ordered_json;

constexpr const char* kFormat = "muster-activation-plan";
constexpr int kVersion = 1;
constexpr size_t kLargestFile = size_t{256} << 20;

/// Deeper than anything in a plan. Writing a document takes the stack's depth of it.
constexpr int kDeepest = 16;

ordered_json parsed(std::string_view text) {
    return ordered_json::parse(text, [](int depth, auto /*event*/, const auto& /*value*/) {
        if (depth > kDeepest) throw std::invalid_argument("lists are nested more than 16 deep");
        return true;
    });
}

uint64_t from_hex(const std::string& text) {
    const auto hash = hash_from(text);
    if (!hash) throw std::invalid_argument("a hash has not 16 hexadecimal digits");
    return *hash;
}

/// A whole number: the library would cast any number.
int64_t whole(const ordered_json& json) {
    if (!json.is_number_integer())
        throw std::invalid_argument((json.is_number() ? json.dump() : json.type_name()) +
                                    std::string(" is no whole number"));
    return json.get<int64_t>();
}

int small(const ordered_json& json) {
    const int64_t x = whole(json);
    if (x < 0 || x > std::numeric_limits<int>::max())
        throw std::invalid_argument(std::to_string(x) + " is below 0 or too large");
    return static_cast<int>(x);
}

std::vector<std::vector<int64_t>> whole_lists(const ordered_json& json) {
    std::vector<std::vector<int64_t>> lists;
    for (const ordered_json& list : json) {
        lists.emplace_back();
        for (const ordered_json& x : list) lists.back().push_back(whole(x));
    }
    return lists;
}

/// Infinite ends (one unit alone says nothing of the spread) are null.
ordered_json written(const Interval& x) {
    const auto end = [](double v) { return std::isfinite(v) ? ordered_json(v) : ordered_json(); };
    return {x.mean, end(x.low), end(x.high)};
}

Interval interval_of(const ordered_json& json) {
    constexpr double kInfinite = std::numeric_limits<double>::infinity();
    if (json.size() != 3) throw std::invalid_argument("an interval is not three numbers");
    return {json.at(0).get<double>(), json.at(1).is_null() ? -kInfinite : json.at(1).get<double>(),
            json.at(2).is_null() ? kInfinite : json.at(2).get<double>()};
}

ordered_json written(const LayerEvidence& layer) {
    ordered_json experts = ordered_json::array();
    for (const ExpertEvidence& e : layer.experts)
        experts.push_back({{"impact", written(e.impact)},
                           {"tokens", e.tokens},
                           {"gate_rank", e.gate_rank},
                           {"dormant", e.dormant}});
    ordered_json json{{"budget", layer.budget},
                      {"hard", written(layer.hard)},
                      {"easy", written(layer.easy)},
                      {"contrast", written(layer.contrast)},
                      {"experts", std::move(experts)}};
    for (const NumberEvidence& n : layer.numbers)
        json["numbers"].push_back({{"experts", n.experts}, {"change", written(n.change)}});
    return json;
}

LayerEvidence layer_of(const ordered_json& json) {
    LayerEvidence layer;
    layer.budget = small(json.at("budget"));
    layer.hard = interval_of(json.at("hard"));
    layer.easy = interval_of(json.at("easy"));
    layer.contrast = interval_of(json.at("contrast"));
    for (const ordered_json& e : json.at("experts"))
        layer.experts.push_back({interval_of(e.at("impact")), whole(e.at("tokens")),
                                 e.at("gate_rank").get<double>(), e.at("dormant").get<bool>()});
    if (json.contains("numbers"))
        for (const ordered_json& n : json.at("numbers"))
            layer.numbers.push_back({small(n.at("experts")), interval_of(n.at("change"))});
    return layer;
}

ActivationPlan plan_of(const ordered_json& json) {
    if (json.at("format").get<std::string>() != kFormat)
        throw std::invalid_argument(std::string("its format is not ") + kFormat);
    if (const int version = small(json.at("version")); version != kVersion)
        throw std::invalid_argument("its version is " + std::to_string(version) + ", not " +
                                    std::to_string(kVersion));
    ActivationPlan plan;
    plan.model = from_hex(json.at("model").get<std::string>());
    plan.text = from_hex(json.at("text").get<std::string>());
    plan.experts_per_token = small(json.at("experts_per_token"));
    plan.lambda = json.at("lambda").get<double>();
    plan.settings = json.at("settings").dump();
    for (const ordered_json& layer : json.at("layers")) plan.layers.push_back(layer_of(layer));
    for (const ordered_json& c : json.at("clusters"))
        plan.clusters.push_back(
            {whole(c.at("windows")), c.at("centre").get<std::vector<std::vector<float>>>(),
             c.at("impact").get<std::vector<std::vector<float>>>(), whole_lists(c.at("tokens"))});
    return plan;
}

}  // namespace

std::string ActivationPlan::to_json() const {
    ordered_json json{{"format", kFormat},
                      {"version", kVersion},
                      {"model", hash_text(model)},
                      {"text", hash_text(text)},
                      {"experts_per_token", experts_per_token},
                      {"lambda", lambda},
                      {"settings", ordered_json::parse(settings.empty() ? "{}" : settings)}};
    ordered_json& all = json["layers"] = ordered_json::array();
    for (const LayerEvidence& layer : layers) all.push_back(written(layer));
    ordered_json& contexts = json["clusters"] = ordered_json::array();
    for (const ContextCluster& c : clusters)
        contexts.push_back({{"windows", c.windows},
                            {"centre", c.centre},
                            {"impact", c.impact},
                            {"tokens", c.tokens}});
    return json.dump() + "\n";
}

ActivationPlan ActivationPlan::from_json(std::string_view text, std::string_view where) {
    const auto fail = [&](const std::string& why) {
        throw Error(
            where, "is no activation plan (" + why + "), expected one that muster calibrate wrote");
    };
    try {
        return plan_of(parsed(text));
    } catch (const ordered_json::exception& e) {
        fail(json_fault(e));
    } catch (const std::logic_error& e) {
        fail(e.what());
    }
    return {};
}

ActivationPlan read_plan(const std::filesystem::path& path) {
    return ActivationPlan::from_json(read_file(path, kLargestFile), path.string());
}

void write_plan(const std::filesystem::path& path, const ActivationPlan& plan) {
    write_file(path, plan.to_json());
}

}  // namespace muster
