// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "muster/checkpoint/safetensors.h"
#include "muster/checkpoint/weight_map.h"

namespace muster {

/// The tensors of a Hugging Face directory: model.safetensors, or the shards that
/// model.safetensors.index.json lists. Mapped and checked; views live as long as the object.
/// Untrusted input: throws Error for an index that is damaged, names files outside the directory,
/// or does not fit the shards (a tensor missing, unlisted or in two of them), and as
/// SafetensorsFile does.
class HfFiles {
  public:
    explicit HfFiles(const std::filesystem::path& directory);

    /// Null when there is no such tensor.
    const TensorView* find(std::string_view name) const noexcept;
    const ByteTensor* find_bytes(std::string_view name) const noexcept;
    bool has(std::string_view name) const noexcept {
        return find(name) != nullptr || find_bytes(name) != nullptr;
    }
    /// All names, in order.
    std::vector<std::string> names() const;
    int64_t size() const noexcept { return std::ssize(tensors_) + std::ssize(bytes_); }
    /// Lets the map drop pages of the files, which live as long as `files`.
    static void keep_in(const std::shared_ptr<const HfFiles>& files, WeightMap& map);

  private:
    void add_shard(const std::filesystem::path& path);

    std::vector<std::unique_ptr<SafetensorsFile>> shards_;
    std::map<std::string_view, const TensorView*, std::less<>> tensors_;
    std::map<std::string_view, const ByteTensor*, std::less<>> bytes_;
};

/// Shard file by tensor name, as model.safetensors.index.json says; throws Error under `where`.
std::map<std::string, std::string, std::less<>> parse_hf_index(std::string_view text,
                                                               std::string_view where);

}  // namespace muster
