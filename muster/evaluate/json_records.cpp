// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/json_records.h"

#include <algorithm>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"

namespace muster {
namespace {

using nlohmann::ordered_json;

/// Throws Error naming the line of the first byte that is no JSON; `line` is that of the text's
/// first byte.
ordered_json parse(std::string_view text, const std::string& name, int line) {
    try {
        return ordered_json::parse(text);
    } catch (const ordered_json::parse_error& e) {
        const size_t before = std::min(e.byte, text.size());
        line += static_cast<int>(std::count(text.begin(), text.begin() + before, '\n'));
        throw Error(name + ":" + std::to_string(line), "this is no JSON, or damaged");
    } catch (const ordered_json::exception&) {
        throw Error(name + ":" + std::to_string(line), "this JSON holds a number out of range");
    }
}

void read_lines(std::string_view content, const std::string& name,
                const std::function<void(const JsonRecord&)>& f) {
    int number = 0;
    for (int line = 1; !content.empty(); ++line) {
        const size_t end = std::min(content.find('\n'), content.size());
        const std::string_view text = content.substr(0, end);
        content.remove_prefix(std::min(end + 1, content.size()));
        if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
        const JsonRecord record{parse(text, name, line), name + ":" + std::to_string(line),
                                ++number};
        if (!record.object.is_object()) record.refuse("this line is no JSON object");
        f(record);
    }
}

void read_document(std::string_view content, const std::string& name, const char* list,
                   const std::function<void(const JsonRecord&)>& f) {
    ordered_json document = parse(content, name, 1);
    if (list != nullptr) {
        JsonRecord whole{std::move(document), name};
        if (!whole.object.is_object())
            whole.refuse("expected an object with the list \"" + std::string(list) + "\"");
        document = whole.member(list);
    }
    if (!document.is_array()) throw Error(name, "expected a list of objects");
    int number = 0;
    for (ordered_json& element : document) {
        ++number;
        const JsonRecord record{std::move(element), name + ", record " + std::to_string(number),
                                number};
        if (!record.object.is_object()) record.refuse("this is no object");
        f(record);
    }
}

}  // namespace

void JsonRecord::refuse(const std::string& what) const { throw Error(where, what); }

const ordered_json& JsonRecord::member(const char* key) const {
    const auto found = object.find(key);
    if (found == object.end()) refuse("\"" + std::string(key) + "\" is missing");
    return *found;
}

const std::string& JsonRecord::text(const char* key) const {
    const ordered_json& value = member(key);
    if (!value.is_string())
        refuse("\"" + std::string(key) + "\" is of type " + value.type_name() +
               ", expected a string");
    return value.get_ref<const std::string&>();
}

std::vector<std::string> JsonRecord::texts(const char* key) const {
    const ordered_json& value = member(key);
    const bool good = value.is_array() && std::all_of(value.begin(), value.end(),
                                                      [](const auto& v) { return v.is_string(); });
    if (!good) refuse("\"" + std::string(key) + "\" is no list of strings, expected one");
    return value.get<std::vector<std::string>>();
}

std::string JsonRecord::label(const char* key, const std::string& otherwise) const {
    const auto found = object.find(key);
    if (found == object.end()) return otherwise;
    if (found->is_number_integer()) return std::to_string(found->get<int64_t>());
    return text(key);
}

JsonRecord JsonRecord::inner(const char* key) const {
    const ordered_json& value = member(key);
    if (!value.is_object()) refuse("\"" + std::string(key) + "\" is no object, expected one");
    return {value, where, number};
}

void for_json_records(const std::filesystem::path& path, const char* list,
                      const std::function<void(const JsonRecord&)>& f) {
    const std::string name = path.string();
    const bool lines = path.extension() == ".jsonl";
    if (!lines && path.extension() != ".json")
        throw Error(name, "expected a file that ends in .jsonl or .json");
    std::string content = read_file(path);
    if (content.starts_with("\xEF\xBB\xBF")) content.erase(0, 3);
    lines ? read_lines(content, name, f) : read_document(content, name, list, f);
}

}  // namespace muster
