// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace muster {

/// Addresses of `size` bytes, zeros, which take memory only where they are written. Movable; moving
/// it moves no bytes.
class ReservedMemory {
  public:
    /// Throws std::bad_alloc when the system has no room for the addresses.
    explicit ReservedMemory(size_t size);
    ~ReservedMemory();
    ReservedMemory(ReservedMemory&& other) noexcept;
    ReservedMemory& operator=(ReservedMemory&& other) noexcept;

    /// Aligned to a page.
    std::byte* data() const noexcept { return data_; }
    size_t size() const noexcept { return size_; }

  private:
    std::byte* data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace muster
