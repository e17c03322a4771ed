// SPDX-License-Identifier: Apache-2.0
#include "muster/core/error.h"
#include "muster/evaluate/csv.h"
#include "muster/evaluate/task_readers.h"

namespace muster {
namespace {

std::string without_leading_spaces(const std::string& text) {
    return text.substr(std::min(text.find_first_not_of(' '), text.size()));
}

}  // namespace

std::vector<TaskItem> read_factor(const std::filesystem::path& path) {
    const CsvTable table = read_csv(path);
    const bool cut = table.find("turncated_prefixes") >= 0;
    const int prefix = table.column(cut ? "turncated_prefixes" : "full_prefix"),
              completion = table.column("completion");
    std::vector<int> contradictions{table.column("contradiction_0")};
    for (int c; (c = table.find("contradiction_" + std::to_string(contradictions.size()))) >= 0;)
        contradictions.push_back(c);
    std::vector<TaskItem> items;
    for (const CsvTable::Row& row : table.rows) {
        TaskItem item;
        item.id = std::to_string(items.size());
        item.context = row.fields[prefix];
        // A space between the texts belongs to the continuation; after a line break there is none.
        item.delimiter = item.context.ends_with(' ') ? " " : "";
        if (item.context.ends_with(' ')) item.context.pop_back();
        item.choices.push_back({without_leading_spaces(row.fields[completion]), true});
        for (const int c : contradictions)
            item.choices.push_back({without_leading_spaces(row.fields[c]), false});
        for (const Choice& choice : item.choices)
            if (choice.text.empty())
                throw Error(table.where(row), "a completion is empty, expected some text");
        items.push_back(std::move(item));
    }
    return items;
}

}  // namespace muster
