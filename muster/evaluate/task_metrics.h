// SPDX-License-Identifier: Apache-2.0
// From scored items to metrics. Internal to evaluate/.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "muster/evaluate/task_evaluation.h"

namespace muster {

/// Names of a kind's metrics, in the order of their values.
std::vector<std::string> metric_names(TaskKind kind);

/// Values of an item's metrics, from its choices or its answer.
std::vector<double> metric_values(TaskKind kind, const TaskItem& item, const TaskRecord& record);

/// values, base: [items][metrics], the latter of the first policy; `which`: the items meant, at
/// least one.
std::vector<MetricResult> metric_results(const std::vector<std::string>& names,
                                         const std::vector<std::vector<double>>& values,
                                         const std::vector<std::vector<double>>& base,
                                         std::span<const size_t> which, double confidence);

/// The same for each group of items, by name; empty where no item has a label.
std::vector<TaskGroup> group_results(const std::vector<std::string>& names,
                                     const std::vector<TaskItem>& items,
                                     const std::vector<std::vector<double>>& values,
                                     const std::vector<std::vector<double>>& base,
                                     double confidence);

}  // namespace muster
