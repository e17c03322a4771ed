// SPDX-License-Identifier: Apache-2.0
// Compact encodings for pages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace muster {

/// RFC 4648, with padding.
std::string base64(std::span<const uint8_t> bytes);

/// Unsigned integers as the least number of bits out of 1, 2, 4, 8, 16, 32 that holds them after
/// the least of them is taken away: little-endian, the first in the lowest bits.
struct PackedIntegers {
    uint32_t low = 0;
    int bits = 0;      ///< 0: all are `low`
    std::string data;  ///< base64
};
PackedIntegers pack_integers(std::span<const uint32_t> values);

}  // namespace muster
