// SPDX-License-Identifier: Apache-2.0
// Hashes in this folder's files: 16 hexadecimal digits. Internal to routing/.
#pragma once

#include <fmt/format.h>

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace muster {

inline std::string hash_text(uint64_t hash) { return fmt::format("{:016x}", hash); }

/// Nothing unless `text` is 16 hexadecimal digits.
inline std::optional<uint64_t> hash_from(std::string_view text) {
    uint64_t hash = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), hash, 16);
    const bool whole = error == std::errc() && end == text.data() + text.size();
    return whole && text.size() == 16 ? std::optional(hash) : std::nullopt;
}

}  // namespace muster
