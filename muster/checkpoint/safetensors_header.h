// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "muster/core/dtype.h"

/// The JSON header of a safetensors file: numbers and text only, no bytes of tensors.
namespace muster::safetensors {

inline constexpr size_t kLengthBytes = 8;          ///< the header's length, u64
inline constexpr size_t kMaxHeader = 100'000'000;  ///< as in the reference implementation
inline constexpr size_t kMaxDimensions = 8;
inline constexpr std::string_view kMetadataKey = "__metadata__";
inline constexpr std::string_view kBytesName = "U8";

/// A tensor as the header describes it; bytes [begin, end) of the data after the header.
struct TensorInfo {
    std::string name;
    DType dtype = DType::f32;
    bool bytes = false;  ///< U8: bytes of a format that config.json explains
    std::vector<int64_t> shape;
    uint64_t begin = 0;
    uint64_t end = 0;
};

struct Header {
    std::vector<TensorInfo> tensors;  ///< names are unique
    std::map<std::string, std::string, std::less<>> metadata;
};

/// Reads a header; `where` stands in messages. Throws Error for anything that is not
/// {"name": {"dtype": …, "shape": […], "data_offsets": [begin, end]}, …, "__metadata__": {…}},
/// which bounds the depth to three. Whether offsets fit shapes is left to the caller.
Header parse_header(std::string_view text, std::string_view where);

/// The name of a format (`BF16`), empty when safetensors has none.
std::string_view dtype_name(DType dtype) noexcept;

/// Bytes that a tensor of this shape takes; none as checked_bytes() says.
std::optional<int64_t> tensor_bytes(const TensorInfo& info) noexcept;

}  // namespace muster::safetensors
