// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/json_records.h"
#include "muster/evaluate/task_readers.h"

namespace muster {
namespace {

/// Names of the members: as published, and in Hugging Face's form.
struct Names {
    const char *id, *question, *answer, *value, *aliases, *normalized, *human;
};
constexpr Names kPublished{"QuestionId", "Question",          "Answer",      "Value",
                           "Aliases",    "NormalizedAliases", "HumanAnswers"};
constexpr Names kHuggingFace{"question_id", "question",           "answer", "value",
                             "aliases",     "normalized_aliases", nullptr};

void add(const JsonRecord& answer, const char* list, std::vector<std::string>& out) {
    for (std::string& text : answer.texts(list)) out.push_back(std::move(text));
}

TaskItem item_of(const JsonRecord& record, const Names& names) {
    TaskItem item;
    item.id = record.label(names.id, std::to_string(record.number));
    item.context = "Question: " + record.text(names.question) + "?\nAnswer:";
    const JsonRecord answer = record.inner(names.answer);
    item.answers.push_back(answer.text(names.value));
    add(answer, names.aliases, item.answers);
    add(answer, names.normalized, item.answers);
    if (names.human != nullptr && answer.object.contains(names.human))
        add(answer, names.human, item.answers);
    if (item.answers.front().empty()) record.refuse("the answer is empty, expected some text");
    return item;
}

}  // namespace

std::vector<TaskItem> read_triviaqa(const std::filesystem::path& path) {
    std::vector<TaskItem> items;
    for_json_records(path, "Data", [&](const JsonRecord& record) {
        const bool published = record.object.contains(kPublished.question);
        items.push_back(item_of(record, published ? kPublished : kHuggingFace));
    });
    return items;
}

}  // namespace muster
