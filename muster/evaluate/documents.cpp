// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/documents.h"

#include <nlohmann/json.hpp>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"

namespace muster {
namespace {

using nlohmann::json;

/// A string member, or empty when it is optional and missing.
std::string text_of(const json& object, const char* key, bool required, const std::string& where) {
    const auto found = object.find(key);
    if (found == object.end() && !required) return "";
    if (found == object.end() || !found->is_string())
        throw Error(where, "\"" + std::string(key) + "\" is missing or no string");
    return found->get<std::string>();
}

void read_json_lines(const std::string& content, const std::string& name,
                     std::vector<Document>& out) {
    size_t begin = 0;
    for (int line = 1; begin < content.size(); ++line) {
        size_t end = content.find('\n', begin);
        if (end == std::string::npos) end = content.size();
        const std::string_view text(content.data() + begin, end - begin);
        begin = end + 1;
        if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
        const std::string where = name + ":" + std::to_string(line);
        const json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
        if (!object.is_object())
            throw Error(where, "this line is no JSON object, expected {\"domain\", \"text\"}");
        Document d{text_of(object, "domain", false, where), text_of(object, "text", true, where)};
        if (!d.text.empty()) out.push_back(std::move(d));
    }
}

}  // namespace

std::vector<Document> read_documents(const std::vector<std::filesystem::path>& files) {
    std::vector<Document> out;
    for (const std::filesystem::path& path : files) {
        std::string content = read_file(path);
        if (path.extension() == ".jsonl") {
            read_json_lines(content, path.string(), out);
        } else if (!content.empty()) {
            out.push_back({"", std::move(content)});
        }
    }
    return out;
}

}  // namespace muster
