// SPDX-License-Identifier: Apache-2.0
#include "muster/core/reserved_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>
#include <utility>

namespace muster {

ReservedMemory::ReservedMemory(size_t size) : size_(std::max<size_t>(1, size)) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#ifdef MAP_NORESERVE
    flags |= MAP_NORESERVE;
#endif
    void* p = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<std::byte*>(p);
#ifdef __linux__
    ::madvise(p, size_, MADV_HUGEPAGE);  // a wish: nothing depends on it
#endif
}

ReservedMemory::~ReservedMemory() {
    if (data_ != nullptr) ::munmap(data_, size_);
}

ReservedMemory::ReservedMemory(ReservedMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

ReservedMemory& ReservedMemory::operator=(ReservedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

}  // namespace muster
