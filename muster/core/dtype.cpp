// SPDX-License-Identifier: Apache-2.0
#include "muster/core/dtype.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>

#include "muster/core/error.h"

namespace muster {
namespace {

constexpr std::array<DTypeInfo, 17> kInfo{{{"f32", 1, 4},
                                           {"f16", 1, 2},
                                           {"bf16", 1, 2},
                                           {"q8_0", 32, 34},
                                           {"i32", 1, 4},
                                           {"q4_0", 32, 18},
                                           {"q4_1", 32, 20},
                                           {"q5_0", 32, 22},
                                           {"q5_1", 32, 24},
                                           {"q2_k", 256, 84},
                                           {"q3_k", 256, 110},
                                           {"q4_k", 256, 144},
                                           {"q5_k", 256, 176},
                                           {"q6_k", 256, 210},
                                           {"iq4_nl", 32, 18},
                                           {"iq4_xs", 256, 136},
                                           {"mxfp4", 32, 17}}};

constexpr auto kAll = [] {
    std::array<DType, kInfo.size()> all{};
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<DType>(i);
    return all;
}();

}  // namespace

const DTypeInfo& dtype_info(DType dtype) noexcept { return kInfo[static_cast<size_t>(dtype)]; }

std::span<const DType> all_dtypes() noexcept { return kAll; }

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
