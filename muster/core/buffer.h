// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

namespace muster {

/// Uninitialised memory for `size` values of a trivial type, aligned to 64 bytes. It grows without
/// keeping its content (`reserve`), so that scratch space is allocated once and reused.
template <typename T>
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(size_t size) { reserve(size); }

    /// Makes room for at least `size` values; content is lost when the buffer has to grow.
    /// Throws std::bad_alloc.
    void reserve(size_t size) {
        if (size <= capacity_) return;
        data_.reset();
        capacity_ = 0;
        // NOLINTNEXTLINE(bugprone-sizeof-expression): T may be a pointer
        const size_t bytes = (size * sizeof(T) + kAlign - 1) / kAlign * kAlign;
        T* p = static_cast<T*>(std::aligned_alloc(kAlign, bytes));
        if (p == nullptr) throw std::bad_alloc();
        data_.reset(p);
        capacity_ = size;
    }
    T* data() noexcept { return data_.get(); }
    const T* data() const noexcept { return data_.get(); }
    T& operator[](size_t i) noexcept { return data_.get()[i]; }
    const T& operator[](size_t i) const noexcept { return data_.get()[i]; }
    size_t capacity() const noexcept { return capacity_; }

  private:
    static constexpr size_t kAlign = 64;
    struct Free {
        void operator()(T* p) const noexcept { std::free(p); }
    };
    std::unique_ptr<T, Free> data_;
    size_t capacity_ = 0;
};

}  // namespace muster
