// SPDX-License-Identifier: Apache-2.0
#include "muster/core/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <system_error>

#include "muster/core/error.h"

namespace muster {
namespace fs = std::filesystem;

namespace {

[[noreturn]] void fail(const fs::path& path, const char* what) {
    throw Error(path.string(), std::string(what) + ": " + std::strerror(errno));
}

}  // namespace

void sync_directory(const fs::path& directory) noexcept {
    const int fd = ::open(directory.empty() ? "." : directory.c_str(), O_RDONLY | O_DIRECTORY);
    if (fd < 0) return;
    ::fsync(fd);
    ::close(fd);
}

AtomicFile::AtomicFile(fs::path target)
    : target_(std::move(target)),
      temporary_(target_.string() + ".tmp" + std::to_string(::getpid())) {
    std::error_code error;
    const fs::file_status there = fs::status(target_, error);
    if (fs::exists(there) && !fs::is_regular_file(there)) {
        temporary_.clear();
        throw Error(target_.string(), "is there and no regular file, expected a file or nothing");
    }
    file_ = std::fopen(temporary_.c_str(), "wb");
    if (file_ == nullptr) fail(target_, "cannot create");
}

AtomicFile::~AtomicFile() {
    if (file_ != nullptr) std::fclose(file_);
    if (!temporary_.empty()) {
        std::error_code ignored;
        fs::remove(temporary_, ignored);
    }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    if (std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) {
        fail(target_, "cannot write");
    }
    size_ += bytes.size();
}

void AtomicFile::commit() {
    if (std::fflush(file_) != 0 || ::fsync(::fileno(file_)) != 0) fail(target_, "cannot write");
    const int closed = std::fclose(file_);
    file_ = nullptr;
    if (closed != 0) fail(target_, "cannot write");
    if (std::rename(temporary_.c_str(), target_.c_str()) != 0) fail(target_, "cannot replace");
    temporary_.clear();
    sync_directory(target_.parent_path());
}

void write_file(const fs::path& path, std::string_view content) {
    AtomicFile file(path);
    file.write(content);
    file.commit();
}

std::string read_file(const fs::path& path, size_t limit) {
    std::error_code error;
    if (fs::is_directory(path, error))
        throw Error(path.string(), "is a directory, expected a file");
    std::ifstream in(path, std::ios::binary);
    if (!in) throw Error(path.string(), std::string("cannot open: ") + std::strerror(errno));
    std::string content;
    char chunk[1 << 16];
    while (in.read(chunk, sizeof(chunk)) || in.gcount() > 0) {
        content.append(chunk, static_cast<size_t>(in.gcount()));
        if (content.size() > limit) {
            throw Error(path.string(), "is longer than " + std::to_string(limit) + " bytes");
        }
    }
    if (in.bad()) throw Error(path.string(), std::string("cannot read: ") + std::strerror(errno));
    return content;
}

}  // namespace muster
