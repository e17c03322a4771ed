// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "muster/core/error.h"
#include "muster/evaluate/csv.h"
#include "muster/evaluate/json_records.h"
#include "muster/evaluate/task_readers.h"
#include "muster/tokenizer/jinja_text.h"

namespace muster {
namespace {

enum class Set { one_right, many_right };

TaskItem item_of(const std::string& question, std::vector<Choice> choices, Set set,
                 const std::string& where) {
    const auto right =
        std::count_if(choices.begin(), choices.end(), [](const Choice& c) { return c.right; });
    const auto wrong = static_cast<std::ptrdiff_t>(choices.size()) - right;
    if (wrong == 0 || right == 0 || (set == Set::one_right && right > 1))
        throw Error(where, "the question has " + std::to_string(right) + " true answers and " +
                               std::to_string(wrong) + " false ones, expected " +
                               (set == Set::one_right ? "one true" : "at least one true") +
                               " and at least one false");
    for (const Choice& c : choices)
        if (c.text.empty()) throw Error(where, "an answer is empty, expected some text");
    TaskItem item;
    item.context = "Q: " + question + "\nA:";
    item.choices = std::move(choices);
    return item;
}

bool truth(const nlohmann::ordered_json& value, const JsonRecord& record) {
    if (!value.is_number_integer() || (value != 0 && value != 1))
        record.refuse("an answer's label is not 0 or 1");
    return value == 1;
}

/// {"answer": 1, …} or {"choices": […], "labels": […]}.
std::vector<Choice> targets(const JsonRecord& record) {
    std::vector<Choice> choices;
    if (record.object.contains("choices")) {
        const auto texts = record.texts("choices");
        const auto& labels = record.member("labels");
        if (!labels.is_array() || labels.size() != texts.size())
            record.refuse("\"labels\" is no list as long as \"choices\"");
        for (size_t i = 0; i < texts.size(); ++i)
            choices.push_back({texts[i], truth(labels[i], record)});
        return choices;
    }
    for (const auto& [text, label] : record.object.items())
        choices.push_back({text, truth(label, record)});
    return choices;
}

/// "one; two" of the table's columns.
void add_answers(const std::string& list, bool right, std::vector<Choice>& out) {
    for (size_t begin = 0; begin <= list.size();) {
        const size_t end = std::min(list.find(';', begin), list.size());
        const std::string answer(jinja::strip(std::string_view(list).substr(begin, end - begin)));
        if (!answer.empty()) out.push_back({answer, right});
        begin = end + 1;
    }
}

std::vector<TaskItem> read_table(const std::filesystem::path& path, Set set) {
    const CsvTable table = read_csv(path);
    const int question = table.column("Question"), wrong = table.column("Incorrect Answers"),
              right = table.column(set == Set::one_right ? "Best Answer" : "Correct Answers"),
              category = table.find("Category");
    std::vector<TaskItem> items;
    for (const CsvTable::Row& row : table.rows) {
        std::vector<Choice> choices;
        if (set == Set::one_right) {
            choices.push_back({std::string(jinja::strip(row.fields[right])), true});
        } else {
            add_answers(row.fields[right], true, choices);
        }
        add_answers(row.fields[wrong], false, choices);
        TaskItem item = item_of(row.fields[question], std::move(choices), set, table.where(row));
        item.id = std::to_string(items.size() + 1);
        if (category >= 0) item.group = row.fields[category];
        items.push_back(std::move(item));
    }
    return items;
}

std::vector<TaskItem> read(const std::filesystem::path& path, Set set) {
    if (path.extension() == ".csv") return read_table(path, set);
    std::vector<TaskItem> items;
    for_json_records(path, nullptr, [&](const JsonRecord& record) {
        const JsonRecord answers =
            record.inner(set == Set::one_right ? "mc1_targets" : "mc2_targets");
        TaskItem item = item_of(record.text("question"), targets(answers), set, record.where);
        item.id = std::to_string(record.number);
        items.push_back(std::move(item));
    });
    return items;
}

}  // namespace

std::vector<TaskItem> read_truthfulqa_mc1(const std::filesystem::path& path) {
    return read(path, Set::one_right);
}

std::vector<TaskItem> read_truthfulqa_mc2(const std::filesystem::path& path) {
    return read(path, Set::many_right);
}

}  // namespace muster
