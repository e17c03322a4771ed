// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "muster/evaluate/task_item.h"

namespace muster {

/// How a task is scored.
enum class TaskKind {
    choices,  ///< log-probabilities of the choices
    cloze,    ///< log-probability of the target, and whether greedy decoding writes it
    answers   ///< the text written greedily, against the right answers
};

/// A published set of questions and how it is scored.
struct Task {
    std::string_view name;
    TaskKind kind;
    std::string_view metric;  ///< the usual one, whose differences are shown first
    std::vector<TaskItem> (*read)(const std::filesystem::path&);
    std::vector<std::string> stop;  ///< strings that end a written answer
};

/// All of them.
std::span<const Task> tasks();

/// Throws Error naming those that there are.
const Task& find_task(std::string_view name);

/// Reads files of a task. Throws Error when one cannot be read, naming file and line, or when there
/// is nothing in them.
std::vector<TaskItem> read_task(const Task& task, const std::vector<std::filesystem::path>& files);

/// Puts the first `count` items of `shots`, solved, in front of every context, a blank line after
/// each. Throws Error when there are fewer.
void add_shots(std::vector<TaskItem>& items, const std::vector<TaskItem>& shots, int count);

}  // namespace muster
