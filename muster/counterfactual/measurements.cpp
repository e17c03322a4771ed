// SPDX-License-Identifier: Apache-2.0
#include "muster/counterfactual/measurements.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/json_fault.h"

namespace muster {
namespace {

using nlohmann::ordered_json;

constexpr const char* kFormat = "muster-calibration-state";
constexpr int kVersion = 2;
constexpr size_t kLargestFile = size_t{4} << 30;

ordered_json written(const WindowMeasurement& w) {
    ordered_json layers = ordered_json::array();
    for (const WindowMeasurement::Layer& l : w.layers) {
        ordered_json layer;
        if (!l.impact.empty())
            layer = {{"hard", l.hard},      {"easy", l.easy}, {"impact", l.impact},
                     {"tokens", l.tokens},  {"rank", l.rank}, {"load", l.load},
                     {"numbers", l.numbers}};
        layers.push_back(std::move(layer));
    }
    return {{"rows", w.rows},
            {"hard_rows", w.hard_rows},
            {"easy_rows", w.easy_rows},
            {"layers", std::move(layers)}};
}

WindowMeasurement window_of(const ordered_json& json) {
    WindowMeasurement w;
    w.rows = json.at("rows").get<int64_t>();
    w.hard_rows = json.at("hard_rows").get<int64_t>();
    w.easy_rows = json.at("easy_rows").get<int64_t>();
    for (const ordered_json& layer : json.at("layers")) {
        WindowMeasurement::Layer& l = w.layers.emplace_back();
        if (layer.is_null()) continue;
        l.hard = layer.at("hard").get<double>();
        l.easy = layer.at("easy").get<double>();
        l.impact = layer.at("impact").get<std::vector<double>>();
        l.tokens = layer.at("tokens").get<std::vector<int64_t>>();
        l.rank = layer.at("rank").get<std::vector<double>>();
        l.load = layer.at("load").get<std::vector<int64_t>>();
        l.numbers = layer.at("numbers").get<std::vector<double>>();
    }
    return w;
}

/// All windows have the same layers with the same numbers of experts, and count as one can.
bool alike(const std::vector<WindowMeasurement>& windows) {
    for (const WindowMeasurement& w : windows) {
        const auto& first = windows.front().layers;
        const auto [least, most] = std::minmax({w.hard_rows, w.easy_rows, w.rows});
        if (w.layers.size() != first.size() || least < 0 || most > w.rows) return false;
        for (size_t l = 0; l < first.size(); ++l) {
            const size_t n = first[l].impact.size();
            const auto& layer = w.layers[l];
            if (layer.impact.size() != n || layer.tokens.size() != n || layer.rank.size() != n ||
                layer.load.size() != n || layer.numbers.size() != first[l].numbers.size() ||
                std::any_of(layer.tokens.begin(), layer.tokens.end(), [](auto x) { return x < 0; }))
                return false;
        }
    }
    return true;
}

}  // namespace

void write_measurements(const std::filesystem::path& path, const Measurements& m) {
    ordered_json json{{"format", kFormat},
                      {"version", kVersion},
                      {"settings", m.settings},
                      {"hard_loss", m.hard_loss},
                      {"easy_loss", m.easy_loss}};
    ordered_json& windows = json["windows"] = ordered_json::array();
    for (const WindowMeasurement& w : m.windows) windows.push_back(written(w));
    write_file(path, json.dump() + "\n");
}

std::optional<Measurements> read_measurements(const std::filesystem::path& path,
                                              const std::string& settings) {
    if (!std::filesystem::exists(path)) return std::nullopt;
    const std::string text = read_file(path, kLargestFile);
    Measurements m;
    try {
        const ordered_json json = ordered_json::parse(text);
        const bool ours = json.at("format") == kFormat && json.at("version") == kVersion;
        if (!ours)
            throw Error(path.string(), "is no state of a calibration of version " +
                                           std::to_string(kVersion) +
                                           ", expected one; remove it "
                                           "to begin anew");
        m.settings = json.at("settings").get<std::string>();
        if (m.settings != settings)
            throw Error(path.string(),
                        "was measured on another model or text or with other settings, expected "
                        "these; remove it to begin anew");
        m.hard_loss = json.at("hard_loss").get<double>();
        m.easy_loss = json.at("easy_loss").get<double>();
        for (const ordered_json& w : json.at("windows")) m.windows.push_back(window_of(w));
    } catch (const ordered_json::exception& e) {
        throw Error(path.string(), "is a damaged state of a calibration (" + json_fault(e) +
                                       "), expected one to go on from");
    }
    if (!alike(m.windows))
        throw Error(path.string(),
                    "is a damaged state of a calibration, expected one to go on from");
    return m;
}

}  // namespace muster
