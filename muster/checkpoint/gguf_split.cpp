// SPDX-License-Identifier: Apache-2.0
// A model in several GGUF files: github.com/ggml-org/llama.cpp tools/gguf-split.
#include <fmt/format.h>

#include <algorithm>
#include <regex>

#include "muster/checkpoint/gguf.h"
#include "muster/checkpoint/gguf_types.h"
#include "muster/checkpoint/tensor_checks.h"
#include "muster/core/error.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kExtension = ".gguf";

std::string part_suffix(int part, int parts) {
    return fmt::format("-{:05}-of-{:05}{}", part + 1, parts, kExtension);
}

/// The path of the whole model, when `path` is named as part `part` of `parts`.
fs::path whole_path(const fs::path& path, int part, int parts) {
    const std::string name = path.filename().string();
    const std::string suffix = part_suffix(part, parts);
    if (name.size() <= suffix.size() || !name.ends_with(suffix)) {
        throw Error(path.string(),
                    fmt::format("is part {} of {} of a split model, expected a file name that ends "
                                "in {}",
                                part + 1, parts, quote(suffix)));
    }
    return path.parent_path() /
           (name.substr(0, name.size() - suffix.size()) + std::string(kExtension));
}

int count_of(const WeightMap& file, std::string_view key, int low, int high) {
    return static_cast<int>(file.integer(key, low, high));
}

/// Part `part` of `parts`; throws Error unless it belongs to the model of `first`.
GgufFile open_part(const fs::path& whole, int part, int parts, int tensors) {
    const fs::path path = split_path(whole, part, parts);
    std::error_code ignored;
    if (!fs::exists(path, ignored)) {
        throw Error(whole.string(), fmt::format("is split in {} parts, of which {} is missing",
                                                parts, quote(path.filename().string())));
    }
    GgufFile file(path);
    const auto same = [&](std::string_view key, int expected) {
        return file.has(key) && file.integer(key, 0, INT32_MAX) == expected;
    };
    if (!same(gguf::kSplitNumber, part) || !same(gguf::kSplitCount, parts) ||
        !same(gguf::kSplitTensors, tensors)) {
        throw Error(path.string(),
                    fmt::format("belongs to another model, expected part {} of {} of a model of "
                                "{} tensors",
                                part + 1, parts, tensors));
    }
    return file;
}

}  // namespace

fs::path split_path(const fs::path& path, int part, int parts) {
    std::string stem = path.filename().string();
    if (stem.ends_with(kExtension)) stem.resize(stem.size() - kExtension.size());
    return path.parent_path() / (stem + part_suffix(part, parts));
}

std::vector<fs::path> split_parts(const fs::path& path) {
    static const std::regex kPart("(.+)-([0-9]{5})-of-([0-9]{5})\\.gguf");
    const std::string name = path.filename().string();
    std::smatch match;
    if (!std::regex_match(name, match, kPart)) return {path};
    const int parts = std::stoi(match[3]);
    std::vector<fs::path> all;
    for (int i = 0; i < std::min(parts, static_cast<int>(gguf::kMaxParts)); ++i)
        all.push_back(split_path(path.parent_path() / match[1].str(), i, parts));
    return all;
}

WeightMap open_gguf(const fs::path& path) {
    GgufFile opened(path);
    if (!opened.has(gguf::kSplitCount)) return opened;
    const int parts = count_of(opened, gguf::kSplitCount, 1, gguf::kMaxParts);
    const int part = count_of(opened, gguf::kSplitNumber, 0, parts - 1);
    const int tensors = count_of(opened, gguf::kSplitTensors, 0, INT32_MAX);
    WeightMap map(std::move(opened));
    if (parts > 1) {
        const fs::path whole = whole_path(path, part, parts);
        // The first part has the metadata.
        if (part != 0) map = open_part(whole, 0, parts, tensors);
        for (int i = 1; i < parts; ++i) map.absorb_tensors(open_part(whole, i, parts, tensors));
    }
    if (map.tensors().size() != static_cast<size_t>(tensors)) {
        throw Error(map.name(), fmt::format("and its {} further parts hold {} tensors, expected {}",
                                            parts - 1, map.tensors().size(), tensors));
    }
    for (const auto key : {gguf::kSplitNumber, gguf::kSplitCount, gguf::kSplitTensors})
        map.erase(key);
    return map;
}

}  // namespace muster
