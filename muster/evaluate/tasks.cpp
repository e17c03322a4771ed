// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/tasks.h"

#include <algorithm>

#include "muster/core/error.h"
#include "muster/evaluate/task_readers.h"

namespace muster {
namespace {

/// Context and right continuation.
std::string solved(const TaskItem& item) {
    if (!item.answers.empty()) return item.context + item.delimiter + item.answers.front();
    const auto right = std::find_if(item.choices.begin(), item.choices.end(),
                                    [](const Choice& c) { return c.right; });
    return item.context + item.delimiter + right->text;
}

}  // namespace

std::span<const Task> tasks() {
    using Kind = TaskKind;
    static const std::vector<Task> all{
        {"truthfulqa-mc1", Kind::choices, "acc", read_truthfulqa_mc1, {}},
        {"truthfulqa-mc2", Kind::choices, "mc2", read_truthfulqa_mc2, {}},
        {"factor", Kind::choices, "acc_tokens", read_factor, {}},
        {"hellaswag", Kind::choices, "acc_norm", read_hellaswag, {}},
        {"arc", Kind::choices, "acc_norm", read_arc, {}},
        {"piqa", Kind::choices, "acc", read_piqa, {}},
        {"triviaqa", Kind::answers, "em", read_triviaqa, {"\n", ".", ","}},
        {"cloze", Kind::cloze, "acc", read_cloze, {}},
    };
    return all;
}

const Task& find_task(std::string_view name) {
    std::string known;
    for (const Task& task : tasks()) {
        if (task.name == name) return task;
        known += (known.empty() ? "" : ", ") + std::string(task.name);
    }
    throw Error("task", "\"" + std::string(name) + "\" is unknown, expected one of " + known);
}

std::vector<TaskItem> read_task(const Task& task, const std::vector<std::filesystem::path>& files) {
    std::vector<TaskItem> items;
    for (const auto& file : files) {
        std::vector<TaskItem> more = task.read(file);
        if (more.empty())
            throw Error(file.string(), "there is no item in this file, expected at least one");
        std::move(more.begin(), more.end(), std::back_inserter(items));
    }
    if (items.empty()) throw Error("task", "no file is given, expected one");
    return items;
}

void add_shots(std::vector<TaskItem>& items, const std::vector<TaskItem>& shots, int count) {
    if (static_cast<size_t>(count) > shots.size())
        throw Error("shots", std::to_string(count) + " are asked for, but the file has " +
                                 std::to_string(shots.size()));
    std::string before;
    for (int i = 0; i < count; ++i) before += solved(shots[i]) + "\n\n";
    for (TaskItem& item : items) item.context.insert(0, before);
}

}  // namespace muster
