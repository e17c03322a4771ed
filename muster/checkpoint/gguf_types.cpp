// SPDX-License-Identifier: Apache-2.0
#include "muster/checkpoint/gguf_types.h"

#include <array>

namespace muster::gguf {
namespace {

struct Supported {
    DType dtype;
    uint32_t number;
};
constexpr std::array<Supported, 17> kSupported{{{DType::f32, 0},
                                                {DType::f16, 1},
                                                {DType::q4_0, 2},
                                                {DType::q4_1, 3},
                                                {DType::q5_0, 6},
                                                {DType::q5_1, 7},
                                                {DType::q8_0, 8},
                                                {DType::q2_k, 10},
                                                {DType::q3_k, 11},
                                                {DType::q4_k, 12},
                                                {DType::q5_k, 13},
                                                {DType::q6_k, 14},
                                                {DType::iq4_nl, 20},
                                                {DType::iq4_xs, 23},
                                                {DType::i32, 26},
                                                {DType::bf16, 30},
                                                {DType::mxfp4, 39}}};

// Indexed by number; empty where a format was removed before it had files.
constexpr std::array<std::string_view, 41> kNames{
    "F32",   "F16",        "Q4_0",       "Q4_1",       "Q4_2",     "Q4_3",     "Q5_0",
    "Q5_1",  "Q8_0",       "Q8_1",       "Q2_K",       "Q3_K",     "Q4_K",     "Q5_K",
    "Q6_K",  "Q8_K",       "IQ2_XXS",    "IQ2_XS",     "IQ3_XXS",  "IQ1_S",    "IQ4_NL",
    "IQ3_S", "IQ2_S",      "IQ4_XS",     "I8",         "I16",      "I32",      "I64",
    "F64",   "IQ1_M",      "BF16",       "Q4_0_4_4",   "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",
    "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4",    "NVFP4"};

}  // namespace

uint32_t type_number(DType dtype) noexcept {
    for (const Supported& s : kSupported) {
        if (s.dtype == dtype) return s.number;
    }
    return ~uint32_t{0};
}

std::optional<DType> dtype_of(uint32_t type_number) noexcept {
    for (const Supported& s : kSupported) {
        if (s.number == type_number) return s.dtype;
    }
    return std::nullopt;
}

std::string supported_types() {
    std::string names;
    for (const Supported& s : kSupported) {
        names += (names.empty() ? "" : ", ") + std::string(type_name(s.number));
    }
    return names;
}

std::string_view type_name(uint32_t type_number) noexcept {
    return type_number < kNames.size() ? kNames[type_number] : std::string_view{};
}

}  // namespace muster::gguf
