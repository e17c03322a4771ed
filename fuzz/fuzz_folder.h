// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "fuzz_parts.h"

namespace muster::fuzzing {

/// Where the files of one input stand; removed when the program ends.
class Folder {
  public:
    Folder() { std::filesystem::create_directories(path_); }
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;

    const std::filesystem::path& path() const noexcept { return path_; }
    /// In place and without waiting for the disk, thousands of times a second.
    void write(const char* name, std::string_view bytes) const {
        std::ofstream(path_ / name, std::ios::binary) << bytes;
    }
    void remove(const char* name) const { std::filesystem::remove(path_ / name); }
    /// The files of a Hugging Face model: config.json, NUL, model.safetensors.index.json (empty:
    /// there is none), NUL, the one safetensors file.
    void write_huggingface(const uint8_t* data, size_t size) const {
        const auto [config, rest] = halves(data, size);
        const auto [index, tensors] =
            halves(reinterpret_cast<const uint8_t*>(rest.data()), rest.size());
        write("config.json", config);
        write("model.safetensors.index.json", index);
        write(index.empty() ? "model.safetensors" : "a.safetensors", tensors);
        remove(index.empty() ? "a.safetensors" : "model.safetensors");
        if (index.empty()) remove("model.safetensors.index.json");
    }

  private:
    std::filesystem::path path_ = std::filesystem::temp_directory_path() /
                                  ("muster-fuzz-" + std::to_string(static_cast<long>(getpid())));
};

}  // namespace muster::fuzzing
