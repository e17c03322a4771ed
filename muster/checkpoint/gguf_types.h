// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "muster/core/dtype.h"

/// Numbers of the GGUF format that its reader and its writer share.
/// Specification: github.com/ggml-org/ggml docs/gguf.md.
namespace muster::gguf {

inline constexpr std::string_view kMagic = "GGUF";
inline constexpr uint32_t kVersion = 3;
inline constexpr uint64_t kAlignment = 32;  ///< unless general.alignment says otherwise
inline constexpr std::string_view kAlignmentKey = "general.alignment";
inline constexpr uint32_t kMaxDimensions = 4;
inline constexpr size_t kMaxKey = 65535;   ///< bytes of a metadata key
inline constexpr size_t kMaxName = 64;     ///< bytes of a tensor name in the specification
inline constexpr size_t kMaxOurName = 63;  ///< llama.cpp keeps names with a final zero in 64 bytes

// A model in several files, as llama.cpp's gguf-split writes it.
inline constexpr std::string_view kSplitNumber = "split.no";  ///< from 0
inline constexpr std::string_view kSplitCount = "split.count";
inline constexpr std::string_view kSplitTensors = "split.tensors.count";  ///< of all parts
inline constexpr size_t kMaxParts = 65535;

/// Types of metadata values, numbered as in files.
enum class ValueType : uint32_t {
    u8 = 0,
    i8 = 1,
    u16 = 2,
    i16 = 3,
    u32 = 4,
    i32 = 5,
    f32 = 6,
    boolean = 7,
    string = 8,
    array = 9,
    u64 = 10,
    i64 = 11,
    f64 = 12
};

/// The number of a tensor format in files.
uint32_t type_number(DType dtype) noexcept;

/// The tensor format of a number, none when it is not supported here.
std::optional<DType> dtype_of(uint32_t type_number) noexcept;

/// GGML's names of the supported formats, separated by commas.
std::string supported_types();

/// GGML's name of a tensor format (`Q4_K`), empty for a number that never had one.
std::string_view type_name(uint32_t type_number) noexcept;

/// The least multiple of `alignment` (a power of two) that is not below `position`; `position` must
/// stay `alignment` below the greatest number.
constexpr uint64_t align_up(uint64_t position, uint64_t alignment) noexcept {
    return (position + alignment - 1) & ~(alignment - 1);
}

}  // namespace muster::gguf
