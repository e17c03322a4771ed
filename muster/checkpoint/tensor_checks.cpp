// SPDX-License-Identifier: Apache-2.0
#include "muster/checkpoint/tensor_checks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "muster/core/error.h"

namespace muster {

std::string quote(std::string_view text) {
    constexpr size_t kLongest = 80;
    std::string result = "'";
    for (const char c : text.substr(0, kLongest)) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte < 0x7f) {
            result += c;
        } else {
            result += fmt::format("\\x{:02x}", byte);
        }
    }
    return result + (text.size() > kLongest ? "…'" : "'");
}

std::string shape_text(std::span<const int64_t> shape) {
    return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", "));
}

std::optional<int64_t> checked_bytes(DType dtype, std::span<const int64_t> shape) noexcept {
    const DTypeInfo& info = dtype_info(dtype);
    const int64_t row = shape.empty() ? 1 : shape.back();
    if (row % info.block_elements != 0) return std::nullopt;
    int64_t elements = 1;
    for (const int64_t dimension : shape) {
        if (dimension < 0) return std::nullopt;
        if (__builtin_mul_overflow(elements, dimension, &elements)) return std::nullopt;
    }
    int64_t bytes = 0;
    if (__builtin_mul_overflow(elements / info.block_elements, info.block_bytes, &bytes)) {
        return std::nullopt;
    }
    return bytes;
}

namespace {

std::span<const int64_t> without_leading_ones(std::span<const int64_t> shape) {
    const auto first = std::find_if(shape.begin(), shape.end(), [](int64_t d) { return d != 1; });
    return {first, shape.end()};
}

}  // namespace

const TensorView& require_tensor(const std::map<std::string, TensorView, std::less<>>& tensors,
                                 std::string_view name, std::span<const int64_t> shape,
                                 std::string_view where, bool leading_ones) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
        throw Error(where, fmt::format("has no tensor {}, expected one of shape {}", quote(name),
                                       shape_text(shape)));
    }
    const TensorView& view = found->second;
    const bool equal = leading_ones ? std::ranges::equal(without_leading_ones(view.shape),
                                                         without_leading_ones(shape))
                                    : std::ranges::equal(view.shape, shape);
    if (!equal) {
        throw Error(where, fmt::format("tensor {} has shape {}, expected {}", quote(name),
                                       shape_text(view.shape), shape_text(shape)));
    }
    return view;
}

}  // namespace muster
