// SPDX-License-Identifier: Apache-2.0
// huggingface/transformers, utils/hub.py (names of the files) and modeling_utils.py (the index).
#include "muster/checkpoint/hf_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "muster/checkpoint/json_value.h"
#include "muster/checkpoint/tensor_checks.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSingle = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";
// DeepSeek-V3 has 92,000 tensors in 163 shards.
constexpr JsonLimits kIndexLimits{.bytes = size_t{64} << 20, .depth = 8, .values = 2'000'000};
constexpr size_t kMostShards = 4096;

/// A file of the directory itself: no separators, no `..`, nothing hidden.
void check_shard_name(const std::string& name, std::string_view where) {
    constexpr std::string_view kEnd = ".safetensors";
    const bool plain = std::ranges::all_of(name, [](char c) {
        return static_cast<unsigned char>(c) > ' ' && c != '/' && c != '\\' && c != ':';
    });
    if (plain && name.size() <= 255 && name.size() > kEnd.size() && name.ends_with(kEnd) &&
        !name.starts_with('.'))
        return;
    throw Error(where, fmt::format("names the shard {}, expected a file of the same directory that "
                                   "ends in {}",
                                   quote(name), kEnd));
}

bool is_there(const fs::path& path) {
    std::error_code ignored;
    return fs::exists(path, ignored);
}

}  // namespace

std::map<std::string, std::string, std::less<>> parse_hf_index(std::string_view text,
                                                               std::string_view where) {
    const JsonValue index = JsonValue::parse(text, where, kIndexLimits);
    const JsonValue* map = index.find("weight_map");
    if (map == nullptr || map->object() == nullptr)
        throw Error(where, "has no object 'weight_map', expected file names by tensor name");
    std::map<std::string, std::string, std::less<>> result;
    std::set<std::string_view> shards;
    for (const auto& [tensor, shard] : *map->object()) {
        if (shard.text() == nullptr)
            throw Error(where, "gives no file name for tensor " + quote(tensor));
        check_shard_name(*shard.text(), where);
        result.emplace(tensor, *shard.text());
        shards.insert(*shard.text());
        if (shards.size() > kMostShards)
            throw Error(where, fmt::format("names more than {} shards", kMostShards));
    }
    if (result.empty()) throw Error(where, "lists no tensors");
    return result;
}

HfFiles::HfFiles(const fs::path& directory) {
    if (is_there(directory / kSingle)) {
        add_shard(directory / kSingle);
        return;
    }
    const fs::path index_path = directory / kIndex;
    if (!is_there(index_path)) {
        const bool pickled = is_there(directory / "pytorch_model.bin") ||
                             is_there(directory / "pytorch_model.bin.index.json");
        throw Error(directory.string(),
                    fmt::format("has neither {} nor {}{}", kSingle, kIndex,
                                pickled ? "; weights in pytorch_model.bin have to be saved again "
                                          "as safetensors"
                                        : ""));
    }
    const std::string where = index_path.string();
    const auto listed = parse_hf_index(read_file(index_path, kIndexLimits.bytes), where);
    std::set<std::string_view> names;
    for (const auto& [tensor, shard] : listed) names.insert(shard);
    for (const std::string_view name : names) {
        if (!is_there(directory / name))
            throw Error(where, "lists the shard " + quote(name) + ", which is missing");
        add_shard(directory / name);
        const auto check = [&](const auto& tensors) {
            for (const auto& [tensor, view] : tensors) {
                const auto found = listed.find(tensor);
                if (found == listed.end() || found->second != name) {
                    throw Error(where, fmt::format("does not list tensor {} of {}", quote(tensor),
                                                   quote(name)));
                }
            }
        };
        check(shards_.back()->tensors());
        check(shards_.back()->byte_tensors());
    }
    for (const auto& [tensor, shard] : listed) {
        if (!has(tensor)) {
            throw Error(where, fmt::format("lists tensor {} in {}, which does not hold it",
                                           quote(tensor), quote(shard)));
        }
    }
}

void HfFiles::add_shard(const fs::path& path) {
    const SafetensorsFile& file = *shards_.emplace_back(std::make_unique<SafetensorsFile>(path));
    const auto repeated = [&](const std::string& name) {
        throw Error(file.name(), "holds tensor " + quote(name) + ", which another shard holds too");
    };
    for (const auto& [name, view] : file.tensors())
        if (!tensors_.emplace(name, &view).second) repeated(name);
    for (const auto& [name, bytes] : file.byte_tensors())
        if (!bytes_.emplace(name, &bytes).second || tensors_.contains(name)) repeated(name);
}

const TensorView* HfFiles::find(std::string_view name) const noexcept {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : found->second;
}

const ByteTensor* HfFiles::find_bytes(std::string_view name) const noexcept {
    const auto found = bytes_.find(name);
    return found == bytes_.end() ? nullptr : found->second;
}

void HfFiles::keep_in(const std::shared_ptr<const HfFiles>& files, WeightMap& map) {
    map.keep(files);
    for (const auto& shard : files->shards_)
        map.keep_mapped(std::shared_ptr<const MappedFile>(files, &shard->mapped()));
}

std::vector<std::string> HfFiles::names() const {
    std::vector<std::string> all;
    all.reserve(tensors_.size() + bytes_.size());
    for (const auto& [name, view] : tensors_) all.emplace_back(name);
    for (const auto& [name, bytes] : bytes_) all.emplace_back(name);
    std::ranges::sort(all);
    return all;
}

}  // namespace muster
