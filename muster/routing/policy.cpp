// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/policy.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>

#include "muster/core/error.h"
#include "muster/routing/policy_names.h"

namespace muster {
namespace {

constexpr size_t kLongestText = 16384;  ///< lists are searched pair by pair: keep them short
constexpr int kLargestNumber = 65535;   ///< of layers and experts
constexpr double kLargestSpeed = 1e9;   ///< tokens per second
constexpr double kLargestScale = 1e6;   ///< and its inverse the smallest

/// The part as it may stand in a message: short and printable.
std::string quoted(std::string_view part) {
    constexpr size_t kLongest = 60;
    std::string text = "'";
    for (const char c : part.substr(0, kLongest)) text += c >= ' ' && c <= '~' ? c : '?';
    return text + (part.size() > kLongest ? "...'" : "'");
}

[[noreturn]] void fail(std::string_view part, std::string_view what, std::string_view expected) {
    throw Error("policy",
                quoted(part) + " " + std::string(what) + ", expected " + std::string(expected));
}

/// The text before the first `separator`, which is taken off `text` with it.
std::string_view take(std::string_view& text, char separator) {
    const size_t end = std::min(text.find(separator), text.size());
    const std::string_view head = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return head;
}

/// A number that is the whole text; no sign, no blanks, and no locale.
template <typename Number>
bool read_number(std::string_view text, Number& number) {
    if (text.empty() || text[0] == '-') return false;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
    return code == std::errc() && end == text.data() + text.size();
}

int read_int(std::string_view part, std::string_view text, int least) {
    int number = 0;
    if (!read_number(text, number) || number < least || number > kLargestNumber)
        fail(part, "holds no valid number",
             "a whole number from " + std::to_string(least) + " to " +
                 std::to_string(kLargestNumber));
    return number;
}

double read_value(std::string_view part, std::string_view text, ValueKind kind) {
    if (kind == ValueKind::count) return read_int(part, text, 1);
    double x = 0;
    const bool number = read_number(text, x) && std::isfinite(x);
    const auto require = [&](bool holds, std::string_view expected) {
        if (!number || !holds) fail(part, "holds no valid number", expected);
    };
    if (kind == ValueKind::share) require(x > 0 && x <= 1, "a share above 0 and at most 1");
    if (kind == ValueKind::ratio) require(x <= 1, "a ratio from 0 to 1");
    if (kind == ValueKind::mean)
        require(x > 0 && x <= kLargestNumber, "a positive mean number of experts");
    if (kind == ValueKind::speed)
        require(x > 0 && x <= kLargestSpeed, "a positive number of tokens per second");
    return x;
}

void read_selection(std::string_view part, RoutingPolicy& policy) {
    std::string_view values = part;
    const std::string_view name = take(values, ':');
    const SelectionName* line = find_name(kSelectionNames, name);
    if (line == nullptr) fail(part, "is no known selection", list_names(kSelectionNames));
    policy.selection = line->value;
    const bool has_values = name.size() < part.size();
    if (line->kind == ValueKind::none) {
        if (has_values) fail(part, "gives a value", "'" + std::string(name) + "' without one");
        return;
    }
    if (!has_values) fail(part, "lacks its value", "'" + std::string(name) + ":' and a number");
    if (line->kind == ValueKind::name) {
        if (values.empty())
            fail(part, "lacks its value", "'" + std::string(name) + ":' and a name");
        policy.plan = values;
        return;
    }
    const auto count = std::count(values.begin(), values.end(), '/') + 1;
    if (line->kind == ValueKind::speed && count > 1)
        fail(part, "gives several values", "one speed for all layers");
    policy.values.reserve(count);
    for (auto i = count; i > 0; --i)
        policy.values.push_back(read_value(part, take(values, '/'), line->kind));
}

/// Sets what only one key may set.
template <typename T>
void set_once(std::string_view part, std::optional<T>& field, T value) {
    if (field) fail(part, "repeats a key", "each key once");
    field = value;
}

void read_weight(std::string_view part, std::string_view value, RoutingPolicy& policy) {
    constexpr std::string_view kScale = "scale:";
    if (value.starts_with(kScale)) {
        double x = 0;
        if (!read_number(value.substr(kScale.size()), x) ||
            !(x >= 1 / kLargestScale && x <= kLargestScale))
            fail(part, "holds no valid number", "a factor from 0.000001 to 1000000");
        return set_once(part, policy.scale, x);
    }
    const WeightingName* line = find_name(kWeightingNames, value);
    if (line == nullptr)
        fail(part, "is no known weighting", list_names(kWeightingNames) + ", or scale:x");
    set_once(part, policy.weight, line->value);
}

void read_score(std::string_view part, std::string_view value, RoutingPolicy& policy) {
    const ScoreName* line = find_name(kScoreNames, value);
    if (line == nullptr) fail(part, "is no known score", list_names(kScoreNames));
    set_once(part, policy.score, line->value);
}

void read_expert(std::string_view part, std::string_view value,
                 std::vector<std::pair<int, int>>& list) {
    if (value.find('.') == std::string_view::npos)
        fail(part, "names no expert", "LAYER.EXPERT, such as 3.17");
    const int layer = read_int(part, take(value, '.'), 0);
    const std::pair<int, int> expert{layer, read_int(part, value, 0)};
    if (std::find(list.begin(), list.end(), expert) != list.end())
        fail(part, "stands twice", "each expert once");
    list.push_back(expert);
}

void read_shared(std::string_view part, std::string_view value, RoutingPolicy& policy) {
    if (value != "on" && value != "off") fail(part, "is no switch", "on or off");
    set_once(part, policy.shared, value == "on");
}

void read_use(std::string_view part, std::string_view value, RoutingPolicy& policy) {
    const PlanUseName* line = find_name(kPlanUseNames, value);
    if (line == nullptr) fail(part, "is no part of a plan", list_names(kPlanUseNames));
    set_once(part, policy.use, line->value);
}

void read_lambda(std::string_view part, std::string_view value, RoutingPolicy& policy) {
    double x = 0;
    if (!read_number(value, x) || !(x <= kLargestScale))
        fail(part, "holds no valid number", "a weight from 0 to 1000000");
    set_once(part, policy.lambda, x);
}

struct Key {
    std::string_view name;
    void (*read)(std::string_view part, std::string_view value, RoutingPolicy& policy);
};
using Text = std::string_view;
constexpr Key kKeys[] = {
    {"score", read_score},
    {"weight", read_weight},
    {"min", [](Text p, Text v, RoutingPolicy& r) { set_once(p, r.min, read_int(p, v, 1)); }},
    {"max", [](Text p, Text v, RoutingPolicy& r) { set_once(p, r.max, read_int(p, v, 1)); }},
    {"groups", [](Text p, Text v, RoutingPolicy& r) { set_once(p, r.groups, read_int(p, v, 1)); }},
    {"ban", [](Text p, Text v, RoutingPolicy& r) { read_expert(p, v, r.ban); }},
    {"force", [](Text p, Text v, RoutingPolicy& r) { read_expert(p, v, r.force); }},
    {"shared", read_shared},
    {"use", read_use},
    {"lambda", read_lambda},
    {"deal", [](Text p, Text v, RoutingPolicy& r) { set_once(p, r.deal, read_int(p, v, 0)); }},
};

void read_key(std::string_view part, RoutingPolicy& policy) {
    if (part.empty()) fail(part, "is an empty part", "key=value");
    std::string_view value = part;
    const std::string_view name = take(value, '=');
    const Key* key = find_name(kKeys, name);
    if (key == nullptr) fail(part, "is no known key", list_names(kKeys));
    if (value.empty()) fail(part, "lacks its value", "key=value");
    key->read(part, value, policy);
}

void check_contradictions(const RoutingPolicy& policy) {
    if (policy.min && policy.max && *policy.min > *policy.max)
        fail("min=" + std::to_string(*policy.min), "exceeds max=" + std::to_string(*policy.max),
             "min at most max");
    for (const auto& expert : policy.ban)
        if (std::find(policy.force.begin(), policy.force.end(), expert) != policy.force.end())
            fail("force=" + std::to_string(expert.first) + "." + std::to_string(expert.second),
                 "is banned as well", "one of ban and force");
    if (policy.selection == Selection::plan)
        for (const auto& [key, set] :
             {std::pair("min", policy.min.has_value()), std::pair("max", policy.max.has_value()),
              std::pair("groups", policy.groups.has_value())})
            if (set) fail(key, "does not go with a plan, which sets the number", "no such key");
    if (policy.selection != Selection::plan && (policy.use || policy.lambda))
        fail(policy.use ? "use" : "lambda", "says nothing without a plan", "plan:NAME before it");
    if (policy.deal && !is_random(policy.use.value_or(PlanUse::both)))
        fail("deal", "says nothing where nothing is dealt", "use=random, or a random part");
    if (policy.selection != Selection::expert_choice) return;
    const auto refuse = [](std::string_view key, bool set) {
        if (set) fail(key, "does not go with expert-choice, where experts choose", "no such key");
    };
    refuse("min", policy.min.has_value());
    refuse("max", policy.max.has_value());
    refuse("groups", policy.groups.has_value());
    refuse("force", !policy.force.empty());
}

std::string number_text(double x) {
    char digits[32];
    const auto end = std::to_chars(std::begin(digits), std::end(digits), x).ptr;
    return {digits, end};
}

std::string values_text(const RoutingPolicy& policy, ValueKind kind) {
    std::string text;
    for (const double x : policy.values) {
        text += text.empty() ? ':' : '/';
        text += kind == ValueKind::count ? std::to_string(static_cast<int>(x)) : number_text(x);
    }
    return text;
}

}  // namespace

RoutingPolicy RoutingPolicy::parse(std::string_view text) {
    if (text.size() > kLongestText)
        fail(text, "is too long", "at most " + std::to_string(kLongestText) + " characters");
    RoutingPolicy policy;
    std::string_view rest = text;
    const std::string_view selection = take(rest, ',');
    read_selection(selection, policy);
    const auto keys = std::count(text.begin(), text.end(), ',');
    for (auto i = keys; i > 0; --i) read_key(take(rest, ','), policy);
    check_contradictions(policy);
    return policy;
}

std::string RoutingPolicy::to_string() const {
    const SelectionName& line = name_of(kSelectionNames, selection);
    std::string text = std::string(line.name) + values_text(*this, line.kind);
    if (line.kind == ValueKind::name) text += ":" + plan;
    const auto add = [&text](std::string_view key, std::string_view value) {
        text.append(",").append(key).append("=").append(value);
    };
    if (score) add("score", name_of(kScoreNames, *score).name);
    if (weight) add("weight", name_of(kWeightingNames, *weight).name);
    if (scale) add("weight", "scale:" + number_text(*scale));
    if (min) add("min", std::to_string(*min));
    if (max) add("max", std::to_string(*max));
    if (groups) add("groups", std::to_string(*groups));
    for (const auto& [layer, expert] : ban)
        add("ban", std::to_string(layer) + "." + std::to_string(expert));
    for (const auto& [layer, expert] : force)
        add("force", std::to_string(layer) + "." + std::to_string(expert));
    if (shared) add("shared", *shared ? "on" : "off");
    if (use) add("use", name_of(kPlanUseNames, *use).name);
    if (lambda) add("lambda", number_text(*lambda));
    if (deal) add("deal", std::to_string(*deal));
    return text;
}

}  // namespace muster
