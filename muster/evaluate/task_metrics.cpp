// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/task_metrics.h"

#include <cmath>
#include <map>

#include "muster/evaluate/answers.h"
#include "muster/tokenizer/jinja_text.h"

namespace muster {
namespace {

using ScoredChoice = TaskRecord::ScoredChoice;

/// Whether the choice of the greatest log-probability per `length` is right.
template <typename Length>
double accuracy(const std::vector<ScoredChoice>& choices, Length length) {
    const ScoredChoice* best = nullptr;
    double score = 0;
    for (const ScoredChoice& c : choices) {
        const double s = c.log_probability / static_cast<double>(length(c));
        if (best == nullptr || s > score) {
            best = &c;
            score = s;
        }
    }
    return best != nullptr && best->right ? 1 : 0;
}

double true_mass(const std::vector<ScoredChoice>& choices) {
    double most = -INFINITY, right = 0, all = 0;
    for (const ScoredChoice& c : choices) most = std::max(most, c.log_probability);
    for (const ScoredChoice& c : choices) {
        const double p = std::exp(c.log_probability - most);
        all += p;
        if (c.right) right += p;
    }
    return right / all;
}

}  // namespace

std::vector<std::string> metric_names(TaskKind kind) {
    switch (kind) {
        case TaskKind::choices:
            return {"acc", "acc_norm", "acc_bytes", "acc_tokens", "mc2"};
        case TaskKind::cloze:
            return {"acc", "nats"};
        case TaskKind::answers:
            return {"em", "f1"};
    }
    return {};
}

std::vector<double> metric_values(TaskKind kind, const TaskItem& item, const TaskRecord& record) {
    const auto& choices = record.choices;
    switch (kind) {
        case TaskKind::choices:
            return {accuracy(choices, [](const ScoredChoice&) { return 1; }),
                    accuracy(choices,
                             [](const ScoredChoice& c) { return jinja::count_characters(c.text); }),
                    accuracy(choices, [](const ScoredChoice& c) { return c.text.size(); }),
                    accuracy(choices, [](const ScoredChoice& c) { return c.tokens; }),
                    true_mass(choices)};
        case TaskKind::cloze:
            return {choices[0].greedy ? 1.0 : 0.0, -choices[0].log_probability};
        case TaskKind::answers:
            return {exact_match(record.answer, item.answers) ? 1.0 : 0.0,
                    answer_f1(record.answer, item.answers)};
    }
    return {};
}

std::vector<MetricResult> metric_results(const std::vector<std::string>& names,
                                         const std::vector<std::vector<double>>& values,
                                         const std::vector<std::vector<double>>& base,
                                         std::span<const size_t> which, double confidence) {
    std::vector<MetricResult> out;
    const std::vector<double> ones(which.size(), 1.0);
    std::vector<double> column(which.size()), difference(which.size());
    for (size_t m = 0; m < names.size(); ++m) {
        for (size_t i = 0; i < which.size(); ++i) {
            column[i] = values[which[i]][m];
            difference[i] = column[i] - base[which[i]][m];
        }
        out.push_back({names[m], bootstrap_ratio(column, ones, confidence),
                       bootstrap_ratio(difference, ones, confidence)});
    }
    return out;
}

std::vector<TaskGroup> group_results(const std::vector<std::string>& names,
                                     const std::vector<TaskItem>& items,
                                     const std::vector<std::vector<double>>& values,
                                     const std::vector<std::vector<double>>& base,
                                     double confidence) {
    std::map<std::string, std::vector<size_t>> members;
    for (size_t i = 0; i < items.size(); ++i)
        if (!items[i].group.empty()) members[items[i].group].push_back(i);
    std::vector<TaskGroup> out;
    out.reserve(members.size());
    for (const auto& [name, which] : members)
        out.push_back({name, static_cast<int64_t>(which.size()),
                       metric_results(names, values, base, which, confidence)});
    return out;
}

}  // namespace muster
