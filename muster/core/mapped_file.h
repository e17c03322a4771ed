// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace muster {

/// A file mapped read-only into memory; the mapping lives as long as the object. Movable.
/// Safe to read from several threads.
class MappedFile {
  public:
    MappedFile() = default;
    /// Throws Error when the file cannot be opened, is no regular file, or cannot be mapped.
    explicit MappedFile(const std::filesystem::path& path);
    ~MappedFile();
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;

    std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
    const std::filesystem::path& path() const noexcept { return path_; }
    /// Gives the memory of the pages that [data, data + size) touches back to the system where the
    /// range lies in this file, and says whether it does; reading them brings them back. Pages at
    /// the ends go too: their neighbours are read again.
    bool drop_pages(const std::byte* data, size_t size) const noexcept;

  private:
    std::filesystem::path path_;
    const std::byte* data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace muster
