// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "muster/core/error.h"
#include "muster/evaluate/csv.h"
#include "muster/evaluate/json_records.h"
#include "muster/evaluate/task_readers.h"
#include "muster/tokenizer/jinja_text.h"

namespace muster {
namespace {

struct Question {
    std::string id, stem, key;
    std::vector<std::string> labels, texts;
};

TaskItem item_of(const Question& q, const std::string& where) {
    if (q.texts.size() < 2 || q.texts.size() != q.labels.size())
        throw Error(where, "expected at least two choices, each with a label");
    const auto right = std::find(q.labels.begin(), q.labels.end(), q.key);
    if (right == q.labels.end())
        throw Error(where, "the answer key \"" + q.key + "\" is the label of no choice");
    TaskItem item;
    item.id = q.id;
    item.context = "Question: " + q.stem + "\nAnswer:";
    for (size_t i = 0; i < q.texts.size(); ++i) {
        if (q.texts[i].empty()) throw Error(where, "a choice is empty, expected some text");
        item.choices.push_back({q.texts[i], q.labels.begin() + i == right});
    }
    return item;
}

void take_choices(const JsonRecord& record, const nlohmann::ordered_json& list, Question& q) {
    if (!list.is_array()) record.refuse("\"choices\" is no list");
    for (const auto& element : list) {
        const JsonRecord choice{element, record.where};
        if (!element.is_object())
            choice.refuse("a choice is no object with \"text\" and \"label\"");
        q.texts.push_back(choice.text("text"));
        q.labels.push_back(choice.text("label"));
    }
}

Question question_of(const JsonRecord& record) {
    Question q;
    q.id = record.label("id", std::to_string(record.number));
    q.key = record.text("answerKey");
    if (record.member("question").is_string()) {
        q.stem = record.text("question");
        const JsonRecord choices = record.inner("choices");
        q.texts = choices.texts("text");
        q.labels = choices.texts("label");
    } else {
        const JsonRecord question = record.inner("question");
        q.stem = question.text("stem");
        take_choices(record, question.member("choices"), q);
    }
    return q;
}

/// "What is it? (A) this (B) that".
void split_choices(std::string_view text, Question& q) {
    const auto find = [&](char label, size_t from) {
        return text.find(std::string("(") + label + ") ", from);
    };
    char label = find('A', 0) != std::string_view::npos ? 'A' : '1';
    size_t at = find(label, 0);
    q.stem = jinja::strip(text.substr(0, at));
    while (at != std::string_view::npos) {
        const size_t begin = at + 4;  // after "(A) "
        q.labels.emplace_back(1, label);
        at = find(++label, begin);
        const size_t end = std::min(at, text.size());
        q.texts.emplace_back(jinja::strip(text.substr(begin, end - begin)));
    }
}

std::vector<TaskItem> read_table(const std::filesystem::path& path) {
    const CsvTable table = read_csv(path);
    const int question = table.column("question"), key = table.column("AnswerKey"),
              id = table.find("questionID");
    std::vector<TaskItem> items;
    for (const CsvTable::Row& row : table.rows) {
        Question q;
        q.id = id >= 0 ? row.fields[id] : std::to_string(items.size() + 1);
        q.key = row.fields[key];
        split_choices(row.fields[question], q);
        items.push_back(item_of(q, table.where(row)));
    }
    return items;
}

}  // namespace

std::vector<TaskItem> read_arc(const std::filesystem::path& path) {
    if (path.extension() == ".csv") return read_table(path);
    std::vector<TaskItem> items;
    for_json_records(path, nullptr, [&](const JsonRecord& record) {
        items.push_back(item_of(question_of(record), record.where));
    });
    return items;
}

}  // namespace muster
