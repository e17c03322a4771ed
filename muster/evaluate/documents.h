// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace muster {

struct Document {
    std::string domain;  ///< empty when the file has no labels
    std::string text;
};

/// Reads text files (each one document) and .jsonl files (one object per line with "text" and
/// optionally "domain"). Empty texts are left out. Throws Error naming file and line.
std::vector<Document> read_documents(const std::vector<std::filesystem::path>& files);

}  // namespace muster
