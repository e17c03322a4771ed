// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "muster/routing/policy.h"

namespace muster {

/// What the values of a selection are, for the grammar and its checks.
enum class ValueKind : uint8_t {
    none,   ///< takes no value
    count,  ///< a whole number of experts, at least 1
    share,  ///< in (0, 1]
    ratio,  ///< in [0, 1]
    mean,   ///< a positive number of experts
    speed,  ///< a positive number of tokens per second, one for all layers
    name,   ///< a text without ','
};

struct SelectionName {
    std::string_view name;
    Selection value;
    ValueKind kind;
};

/// The words of the policy text. A new selection, score or weighting gets its line here.
inline constexpr SelectionName kSelectionNames[] = {
    {"model", Selection::model, ValueKind::none},
    {"top-k", Selection::top_k, ValueKind::count},
    {"top-p", Selection::top_p, ValueKind::share},
    {"relative", Selection::relative, ValueKind::ratio},
    {"threshold", Selection::threshold, ValueKind::none},
    {"expert-choice", Selection::expert_choice, ValueKind::mean},
    {"hash", Selection::hash, ValueKind::none},
    {"random", Selection::random, ValueKind::count},
    {"mean", Selection::mean, ValueKind::mean},
    {"speed", Selection::speed, ValueKind::speed},
    {"plan", Selection::plan, ValueKind::name},
};

struct PlanUseName {
    std::string_view name;
    PlanUse value;
};
inline constexpr PlanUseName kPlanUseNames[] = {
    {"both", PlanUse::both},
    {"global", PlanUse::global},
    {"layers", PlanUse::layers},
    {"experts", PlanUse::experts},
    {"random-layers", PlanUse::random_layers},
    {"random-experts", PlanUse::random_experts},
    {"random", PlanUse::random},
};

struct ScoreName {
    std::string_view name;
    Score value;
};
inline constexpr ScoreName kScoreNames[] = {
    {"softmax", Score::softmax},
    {"sigmoid", Score::sigmoid},
    {"sqrt-softplus", Score::sqrt_softplus},
    {"relu", Score::relu},
    {"cosine", Score::cosine},
};

struct WeightingName {
    std::string_view name;
    Weighting value;
};
inline constexpr WeightingName kWeightingNames[] = {
    {"raw", Weighting::raw},
    {"renorm", Weighting::renorm},
    {"softmax", Weighting::softmax},
    {"uniform", Weighting::uniform},
};

/// The line with this name, or null.
template <typename Line, size_t n>
constexpr const Line* find_name(const Line (&table)[n], std::string_view name) {
    for (const Line& line : table)
        if (line.name == name) return &line;
    return nullptr;
}

/// The line of this value; every value has one.
template <typename Line, size_t n, typename Value>
constexpr const Line& name_of(const Line (&table)[n], Value value) {
    for (const Line& line : table)
        if (line.value == value) return line;
    return table[0];
}

/// "a, b or c", for messages.
template <typename Line, size_t n>
std::string list_names(const Line (&table)[n]) {
    std::string text;
    for (size_t i = 0; i < n; ++i) {
        if (i > 0) text += i + 1 < n ? ", " : " or ";
        text += table[i].name;
    }
    return text;
}

}  // namespace muster
