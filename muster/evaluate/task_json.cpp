// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <nlohmann/json.hpp>

#include "muster/evaluate/task_evaluation.h"

namespace muster {
namespace {

using nlohmann::ordered_json;

/// Numbers that are not finite become null.
ordered_json interval_json(const Interval& i) {
    return {{"mean", i.mean}, {"low", i.low}, {"high", i.high}};
}

ordered_json metrics_json(const std::vector<MetricResult>& metrics) {
    ordered_json out = ordered_json::object();
    for (const MetricResult& m : metrics) {
        ordered_json value = interval_json(m.value);
        value["difference"] = interval_json(m.difference);
        out[m.name] = std::move(value);
        if (m.name == "nats")
            out["perplexity"] = interval_json(
                {std::exp(m.value.mean), std::exp(m.value.low), std::exp(m.value.high)});
    }
    return out;
}

ordered_json policy_json(const TaskPolicyResult& p) {
    ordered_json groups = ordered_json::object();
    for (const TaskGroup& g : p.groups)
        groups[g.name] = {{"items", g.items}, {"metrics", metrics_json(g.metrics)}};
    return {{"policy", p.policy},
            {"metrics", metrics_json(p.metrics)},
            {"groups", groups},
            {"experts_per_token", p.mean_experts},
            {"experts_per_layer", p.experts},
            {"activated_parameters", p.activated},
            {"tokens", p.tokens},
            {"seconds", p.seconds}};
}

std::string text_of(const ordered_json& document, int indent) {
    return document.dump(indent, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace

std::string to_json(const TaskRecord& record) {
    ordered_json metrics = ordered_json::object(), choices = ordered_json::array();
    for (const auto& [name, value] : record.metrics) metrics[name] = value;
    for (const auto& c : record.choices)
        choices.push_back({{"text", c.text},
                           {"right", c.right},
                           {"log_probability", c.log_probability},
                           {"tokens", c.tokens},
                           {"greedy", c.greedy}});
    ordered_json out{{"policy", record.policy}, {"item", record.item}};
    if (!record.group.empty()) out["group"] = record.group;
    out["metrics"] = metrics;
    if (record.choices.empty()) {
        out["answer"] = record.answer;
    } else {
        out["choices"] = choices;
    }
    out["tokens"] = record.tokens;
    out["experts"] = record.experts;
    if (record.dropped > 0) out["dropped_tokens"] = record.dropped;
    return text_of(out, -1);
}

std::string to_json(const TaskResult& result) {
    ordered_json policies = ordered_json::array();
    for (const TaskPolicyResult& p : result.policies) policies.push_back(policy_json(p));
    const ordered_json out{{"format", "muster-task"},   {"version", 1},
                           {"task", result.task},       {"metric", result.metric},
                           {"items", result.items},     {"cut_items", result.cut},
                           {"threads", result.threads}, {"policies", policies}};
    return text_of(out, 1) + "\n";
}

}  // namespace muster
