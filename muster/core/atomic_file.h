// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace muster {

/// Writes a file under a temporary name beside its target; commit() flushes it to disk and renames
/// it over the target, so that readers see the old file or the whole new one. Without commit() the
/// temporary file is removed. Not thread-safe.
class AtomicFile {
  public:
    /// Throws Error when the temporary file cannot be created, or the target is a directory or a
    /// device.
    explicit AtomicFile(std::filesystem::path target);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    /// Each throws Error when the disk refuses (full, read-only).
    void write(std::span<const std::byte> bytes);
    void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
    void commit();

    /// Bytes written so far.
    size_t size() const noexcept { return size_; }

  private:
    std::filesystem::path target_;
    std::filesystem::path temporary_;
    std::FILE* file_ = nullptr;
    size_t size_ = 0;
};

/// Flushes a directory's entries to disk: renames in it are then safe from a loss of power. Does
/// nothing where the system refuses.
void sync_directory(const std::filesystem::path& directory) noexcept;

/// Writes a whole file atomically; throws Error.
void write_file(const std::filesystem::path& path, std::string_view content);

/// Reads a whole file; throws Error when it cannot be read or is longer than `limit` bytes.
std::string read_file(const std::filesystem::path& path, size_t limit = size_t{1} << 30);

}  // namespace muster
