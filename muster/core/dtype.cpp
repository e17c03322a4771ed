// SPDX-License-Identifier: Apache-2.0
#include "muster/core/dtype.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>

#include "muster/core/error.h"

namespace muster {
namespace {

constexpr std::array<DTypeInfo, 5> kInfo{{{"f32", 1, 4},
                                          {"f16", 1, 2},
                                          {"bf16", 1, 2},
                                          // GGML's Q8_0: one f16 scale, then 32 signed bytes.
                                          {"q8_0", 32, 34},
                                          {"i32", 1, 4}}};

}  // namespace

const DTypeInfo& dtype_info(DType dtype) noexcept { return kInfo[static_cast<size_t>(dtype)]; }

int64_t dtype_bytes(DType dtype, int64_t elements) noexcept {
    const DTypeInfo& info = dtype_info(dtype);
    MUSTER_ASSERT(elements % info.block_elements == 0);
    return elements / info.block_elements * info.block_bytes;
}

DType parse_dtype(std::string_view name) {
    std::string lower(name);
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    std::string known;
    for (size_t i = 0; i < kInfo.size(); ++i) {
        if (kInfo[i].name == lower) return static_cast<DType>(i);
        known += (known.empty() ? "" : ", ") + std::string(kInfo[i].name);
    }
    throw Error("dtype", "unknown format '" + std::string(name) + "', expected one of " + known);
}

}  // namespace muster
