// SPDX-License-Identifier: Apache-2.0
// Records of task files in JSON. Internal to evaluate/.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace muster {

/// One object of a file and where it stands, for messages: "file:line" or "file, record 3".
struct JsonRecord {
    nlohmann::ordered_json object;
    std::string where;
    int number = 0;  ///< in the file, from 1

    /// Each throws Error when the member is missing or of another kind.
    const nlohmann::ordered_json& member(const char* key) const;
    const std::string& text(const char* key) const;
    std::vector<std::string> texts(const char* key) const;
    /// A text or a whole number as text; `otherwise` where the member is missing.
    std::string label(const char* key, const std::string& otherwise = "") const;
    /// The object under `key`, as a record of its own in the same place.
    JsonRecord inner(const char* key) const;

    [[noreturn]] void refuse(const std::string& what) const;
};

/// Calls f for the objects of a file: of .jsonl one a line, of .json the elements of its array, or
/// of the array `list` of its object (null: the document is an array). Throws Error naming file and
/// line, also for other extensions.
void for_json_records(const std::filesystem::path& path, const char* list,
                      const std::function<void(const JsonRecord&)>& f);

}  // namespace muster
