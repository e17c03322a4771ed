// SPDX-License-Identifier: Apache-2.0
#include <sstream>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/evaluate/json_records.h"
#include "muster/evaluate/task_readers.h"

namespace muster {
namespace {

/// valid.jsonl -> valid-labels.lst
std::filesystem::path labels_path(const std::filesystem::path& path) {
    return path.parent_path() / (path.stem().string() + "-labels.lst");
}

/// A label a line.
std::vector<std::string> read_labels(const std::filesystem::path& path) {
    std::istringstream content(read_file(path));
    std::vector<std::string> labels;
    for (std::string line; std::getline(content, line);) {
        if (line.ends_with('\r')) line.pop_back();
        if (line != "0" && line != "1")
            throw Error(path.string() + ":" + std::to_string(labels.size() + 1),
                        "expected a label, 0 or 1");
        labels.push_back(line);
    }
    return labels;
}

}  // namespace

std::vector<TaskItem> read_piqa(const std::filesystem::path& path) {
    std::vector<TaskItem> items;
    std::vector<std::string> labels;
    bool apart = false;
    for_json_records(path, nullptr, [&](const JsonRecord& record) {
        if (record.number == 1) {
            apart = !record.object.contains("label");
            if (apart) labels = read_labels(labels_path(path));
        }
        const auto n = static_cast<size_t>(record.number);
        if (apart && n > labels.size())
            record.refuse("has no label in " + labels_path(path).string() + ", which ends before");
        const std::string label = apart ? labels[n - 1] : record.label("label");
        if (label != "0" && label != "1") record.refuse("\"label\" is not 0 or 1");
        TaskItem item;
        item.id = record.label("id", std::to_string(n));
        item.context = "Question: " + record.text("goal") + "\nAnswer:";
        item.choices = {{record.text("sol1"), label == "0"}, {record.text("sol2"), label == "1"}};
        for (const Choice& c : item.choices)
            if (c.text.empty()) record.refuse("a solution is empty, expected some text");
        items.push_back(std::move(item));
    });
    if (apart && labels.size() != items.size())
        throw Error(labels_path(path).string(), std::to_string(labels.size()) +
                                                    " labels, expected " +
                                                    std::to_string(items.size()) + ", one a goal");
    return items;
}

}  // namespace muster
