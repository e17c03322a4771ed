// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace muster {

/// A hash of bytes for tables in memory, never stored.
inline uint64_t hash_bytes(std::string_view bytes) noexcept {
    constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15U;  // 2^64 / golden ratio
    uint64_t hash = bytes.size() * kMultiplier;
    const auto mix = [&](uint64_t word) {
        hash = (hash ^ word) * kMultiplier;
        hash ^= hash >> 32;
    };
    const char* at = bytes.data();
    size_t left = bytes.size();
    for (; left >= 8; left -= 8, at += 8) {
        uint64_t word;
        std::memcpy(&word, at, 8);
        mix(word);
    }
    if (left > 0) {
        uint64_t word = 0;
        for (size_t i = 0; i < left; ++i) word |= uint64_t{static_cast<uint8_t>(at[i])} << 8 * i;
        mix(word);
    }
    return hash;
}

/// String -> its index in a list that the caller keeps alive and unchanged. Immutable once filled.
class PieceIndex {
  public:
    explicit PieceIndex(std::span<const std::string> pieces)
        : pieces_(pieces), slots_(std::bit_ceil(pieces.size() * 2 + 1), -1) {}

    /// Adds pieces[id], unless an equal one is there: gives the id that the string now has.
    int32_t insert(int32_t id) noexcept {
        int32_t& slot = slots_[place(pieces_[static_cast<size_t>(id)])];
        if (slot < 0) slot = id;
        return slot;
    }
    /// -1: none.
    int32_t find(std::string_view piece) const noexcept { return slots_[place(piece)]; }

  private:
    size_t place(std::string_view piece) const noexcept {
        const size_t mask = slots_.size() - 1;
        size_t at = hash_bytes(piece) & mask;
        while (slots_[at] >= 0 && pieces_[static_cast<size_t>(slots_[at])] != piece) {
            at = (at + 1) & mask;
        }
        return at;
    }

    std::span<const std::string> pieces_;
    std::vector<int32_t> slots_;
};

}  // namespace muster
