// SPDX-License-Identifier: Apache-2.0
#include "muster/checkpoint/byte_cursor.h"

#include <fmt/format.h>

#include "muster/core/error.h"

namespace muster {

std::string_view ByteCursor::text(std::string_view what) {
    const auto length = read<uint64_t>(what);
    if (length > remaining()) {
        throw Error(where_, fmt::format("{} claims {} bytes, but the file has only {} left", what,
                                        length, remaining()));
    }
    const auto taken = take(static_cast<size_t>(length), what);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
}

size_t ByteCursor::count(size_t least_bytes, std::string_view what) {
    const auto number = read<uint64_t>(what);
    const size_t most = remaining() / least_bytes;
    if (number > most) {
        throw Error(where_, fmt::format("{} is {}, but the rest of the file holds at most {}", what,
                                        number, most));
    }
    return static_cast<size_t>(number);
}

void ByteCursor::fail_truncated(size_t count, std::string_view what) const {
    throw Error(where_, fmt::format("ends at byte {} inside {}, which needs {} bytes from byte {}",
                                    bytes_.size(), what, count, position_));
}

}  // namespace muster
