// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace muster {

static_assert(std::endian::native == std::endian::little,
              "checkpoints are little-endian and are used where they lie in the file");

/// Reads untrusted little-endian bytes front to back and never beyond their end. `what` names the
/// thing being read in the message of the Error that is thrown when it does not fit. Does not own
/// the bytes nor the name.
class ByteCursor {
  public:
    ByteCursor(std::span<const std::byte> bytes, std::string_view where) noexcept
        : bytes_(bytes), where_(where) {}

    std::string_view where() const noexcept { return where_; }
    size_t position() const noexcept { return position_; }
    size_t remaining() const noexcept { return bytes_.size() - position_; }

    template <typename T>
        requires std::is_arithmetic_v<T>
    T read(std::string_view what) {
        T value;
        std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
        return value;
    }

    /// The next `count` bytes.
    std::span<const std::byte> take(size_t count, std::string_view what) {
        if (count > remaining()) fail_truncated(count, what);
        const auto taken = bytes_.subspan(position_, count);
        position_ += count;
        return taken;
    }

    /// A u64 length, then that many bytes; the text lies in the file.
    std::string_view text(std::string_view what);

    /// A u64 number of things of at least `least_bytes` each; one that the rest of the file cannot
    /// hold is refused, so that the result may be allocated.
    size_t count(size_t least_bytes, std::string_view what);

  private:
    [[noreturn]] void fail_truncated(size_t count, std::string_view what) const;

    std::span<const std::byte> bytes_;
    std::string_view where_;
    size_t position_ = 0;
};

}  // namespace muster
