// SPDX-License-Identifier: Apache-2.0
#include "muster/report/packed.h"

#include <algorithm>
#include <vector>

namespace muster {

std::string base64(std::span<const uint8_t> bytes) {
    static constexpr char kDigits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    out.reserve((bytes.size() + 2) / 3 * 4);
    for (size_t i = 0; i < bytes.size(); i += 3) {
        const size_t n = std::min<size_t>(3, bytes.size() - i);
        uint32_t group = static_cast<uint32_t>(bytes[i]) << 16;
        if (n > 1) group |= static_cast<uint32_t>(bytes[i + 1]) << 8;
        if (n > 2) group |= bytes[i + 2];
        for (size_t d = 0; d < 4; ++d) out += d <= n ? kDigits[(group >> (18 - 6 * d)) & 63] : '=';
    }
    return out;
}

PackedIntegers pack_integers(std::span<const uint32_t> values) {
    PackedIntegers out;
    if (values.empty()) return out;
    const auto [least, greatest] = std::minmax_element(values.begin(), values.end());
    out.low = *least;
    const uint32_t span = *greatest - *least;
    if (span == 0) return out;
    out.bits = 1;
    while (out.bits < 32 && span >> out.bits != 0) out.bits *= 2;
    const auto bits = static_cast<size_t>(out.bits);
    std::vector<uint8_t> bytes((values.size() * bits + 7) / 8);
    for (size_t i = 0; i < values.size(); ++i) {
        const uint32_t v = values[i] - out.low;
        const size_t at = i * bits;
        for (size_t b = 0; b < bits; b += 8)
            bytes[(at + b) / 8] |= static_cast<uint8_t>((v >> b) << (at % 8));
    }
    out.data = base64(bytes);
    return out;
}

}  // namespace muster
