// SPDX-License-Identifier: Apache-2.0
#include "muster/core/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "muster/core/error.h"

namespace muster {

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
    // Non-blocking: opening a pipe that nobody writes to would wait for ever.
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) throw Error(path.string(), std::string("cannot open: ") + std::strerror(errno));
    struct stat st {};
    const bool regular = ::fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    void* p = nullptr;
    int error = 0;
    if (regular && st.st_size > 0) {
        p = ::mmap(nullptr, static_cast<size_t>(st.st_size), PROT_READ, MAP_SHARED, fd, 0);
        error = errno;
    }
    ::close(fd);
    if (!regular) throw Error(path.string(), "is not a regular file");
    if (p == MAP_FAILED)
        throw Error(path.string(), std::string("cannot map: ") + std::strerror(error));
    data_ = static_cast<const std::byte*>(p);
    size_ = static_cast<size_t>(st.st_size);
}

MappedFile::~MappedFile() {
    if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

bool MappedFile::drop_pages(const std::byte* data, size_t size) const noexcept {
    const auto begin = std::bit_cast<uintptr_t>(data_), first = std::bit_cast<uintptr_t>(data);
    if (data_ == nullptr || first < begin || first - begin > size_ ||
        size > size_ - (first - begin))
        return false;
    const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
    const uintptr_t from = first / page * page;
    const uintptr_t to = (first + size + page - 1) / page * page;
    ::madvise(std::bit_cast<void*>(from), to - from, MADV_DONTNEED);
    return true;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

}  // namespace muster
