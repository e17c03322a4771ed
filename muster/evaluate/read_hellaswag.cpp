// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/json_records.h"
#include "muster/evaluate/task_readers.h"
#include "muster/tokenizer/jinja_text.h"

namespace muster {
namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
        text.replace(at, from.size(), to);
}

/// Without what stands in brackets on one line.
std::string without_brackets(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        const size_t open = std::min(text.find('['), text.size());
        out += text.substr(0, open);
        text.remove_prefix(open);
        if (text.empty()) break;
        const size_t end = text.find_first_of("]\n");
        const bool closed = end != std::string_view::npos && text[end] == ']';
        if (!closed) out += '[';
        text.remove_prefix(closed ? end + 1 : 1);
    }
    return out;
}

std::string cleaned(std::string_view text) {
    std::string out(jinja::strip(text));
    replace_all(out, " [title]", ". ");
    out = without_brackets(out);
    replace_all(out, "  ", " ");
    return out;
}

size_t label_of(const JsonRecord& record, size_t endings) {
    const std::string label = record.label("label");
    if (label.size() != 1 || label[0] < '0' || static_cast<size_t>(label[0] - '0') >= endings)
        record.refuse("\"label\" is no number of an ending, expected 0 to " +
                      std::to_string(endings - 1) + " (the test split has none)");
    return static_cast<size_t>(label[0] - '0');
}

}  // namespace

std::vector<TaskItem> read_hellaswag(const std::filesystem::path& path) {
    std::vector<TaskItem> items;
    for_json_records(path, nullptr, [&](const JsonRecord& record) {
        const auto endings = record.texts("endings");
        if (endings.size() < 2) record.refuse("expected at least two endings");
        const size_t label = label_of(record, endings.size());
        TaskItem item;
        item.id = record.label("ind", std::to_string(record.number));
        item.context = cleaned(record.text("activity_label") + ": " + record.text("ctx_a") + " " +
                               jinja::capitalize(record.text("ctx_b")));
        for (size_t i = 0; i < endings.size(); ++i)
            item.choices.push_back({cleaned(endings[i]), i == label});
        for (const Choice& c : item.choices)
            if (c.text.empty()) record.refuse("an ending is empty, expected some text");
        items.push_back(std::move(item));
    });
    return items;
}

}  // namespace muster
