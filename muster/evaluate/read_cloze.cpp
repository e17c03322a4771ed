// SPDX-License-Identifier: Apache-2.0
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/evaluate/json_records.h"
#include "muster/evaluate/task_readers.h"
#include "muster/tokenizer/jinja_text.h"

namespace muster {
namespace {

/// The last word is the target.
TaskItem item_of(std::string_view text, const std::string& where) {
    text = jinja::strip(text, jinja::Side::right);
    const size_t space = text.rfind(' ');
    if (space == std::string_view::npos)
        throw Error(where, "a text of one word, expected a context and a last word");
    TaskItem item;
    item.context = text.substr(0, space);
    item.choices = {{std::string(text.substr(space + 1)), true}};
    return item;
}

TaskItem item_of(const JsonRecord& record) {
    TaskItem item;
    if (record.object.contains("text")) {
        item = item_of(record.text("text"), record.where);
    } else {
        item.context = record.text("context");
        const std::string& target = record.text("target");
        item.choices = {{std::string(jinja::strip(target, jinja::Side::left)), true}};
        if (item.choices[0].text.empty()) record.refuse("\"target\" is empty, expected some text");
    }
    item.id = record.label("id", std::to_string(record.number));
    item.group = record.label("domain");
    return item;
}

std::vector<TaskItem> read_lines(const std::filesystem::path& path) {
    const std::string content = read_file(path);
    std::vector<TaskItem> items;
    size_t begin = 0;
    for (int line = 1; begin < content.size(); ++line) {
        const size_t end = std::min(content.find('\n', begin), content.size());
        const std::string_view text(content.data() + begin, end - begin);
        begin = end + 1;
        if (jinja::strip(text).empty()) continue;
        items.push_back(item_of(text, path.string() + ":" + std::to_string(line)));
        items.back().id = std::to_string(items.size());
    }
    return items;
}

}  // namespace

std::vector<TaskItem> read_cloze(const std::filesystem::path& path) {
    if (path.extension() == ".txt") return read_lines(path);
    std::vector<TaskItem> items;
    for_json_records(path, nullptr,
                     [&](const JsonRecord& record) { items.push_back(item_of(record)); });
    return items;
}

}  // namespace muster
