// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "muster/core/atomic_file.h"

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
    void write(const char* name, std::string_view bytes) const { write_file(path_ / name, bytes); }
    void remove(const char* name) const { std::filesystem::remove(path_ / name); }

  private:
    std::filesystem::path path_ = std::filesystem::temp_directory_path() /
                                  ("muster-fuzz-" + std::to_string(static_cast<long>(getpid())));
};

}  // namespace muster::fuzzing
