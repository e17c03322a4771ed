// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <tuple>

#include "muster/checkpoint/byte_cursor.h"
#include "muster/checkpoint/safetensors.h"
#include "muster/checkpoint/safetensors_header.h"
#include "muster/checkpoint/tensor_checks.h"

namespace muster {
namespace {

using safetensors::TensorInfo;

std::string_view read_header_text(ByteCursor& cursor) {
    const auto length = cursor.read<uint64_t>("the length of the header");
    if (length > safetensors::kMaxHeader) {
        throw Error(cursor.where(), fmt::format("claims a header of {} bytes, expected at most {}",
                                                length, safetensors::kMaxHeader));
    }
    const auto bytes = cursor.take(static_cast<size_t>(length), "the header");
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (!text.starts_with('{')) {
        throw Error(cursor.where(), fmt::format("has a header that begins with {}, expected '{{'",
                                                quote(text.substr(0, 1))));
    }
    return text;
}

/// Shapes fit offsets, and tensors cover [0, data) without overlap and holes.
void check_places(std::vector<TensorInfo>& infos, uint64_t data, std::string_view where) {
    std::ranges::sort(infos, {}, [](const TensorInfo& t) { return std::tuple(t.begin, t.end); });
    uint64_t covered = 0;
    for (const TensorInfo& info : infos) {
        if (info.begin > info.end || info.end > data) {
            throw Error(where, fmt::format("tensor {} lies at bytes {} to {}, but the file has {} "
                                           "bytes of tensor data",
                                           quote(info.name), info.begin, info.end, data));
        }
        const auto bytes = safetensors::tensor_bytes(info);
        if (!bytes || static_cast<uint64_t>(*bytes) != info.end - info.begin) {
            throw Error(where,
                        fmt::format("tensor {} of shape {} has {} bytes, expected {}",
                                    quote(info.name), shape_text(info.shape), info.end - info.begin,
                                    bytes ? std::to_string(*bytes) : "less than 2^63"));
        }
        if (info.begin != covered) {
            throw Error(where, fmt::format("tensor {} begins at byte {} of the tensor data, "
                                           "expected {} ({})",
                                           quote(info.name), info.begin, covered,
                                           info.begin < covered ? "it overlaps another tensor"
                                                                : "there is a hole before it"));
        }
        covered = info.end;
    }
    if (covered != data) {
        throw Error(where, fmt::format("has {} bytes of tensor data, expected {}", data, covered));
    }
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(path), name_(path.string()) {
    parse(file_.bytes());
}

SafetensorsFile::SafetensorsFile(std::span<const std::byte> bytes, std::string name)
    : name_(std::move(name)) {
    parse(bytes);
}

void SafetensorsFile::parse(std::span<const std::byte> bytes) {
    ByteCursor cursor(bytes, name_);
    safetensors::Header header = safetensors::parse_header(read_header_text(cursor), name_);
    const std::span<const std::byte> data = bytes.subspan(cursor.position());
    check_places(header.tensors, data.size(), name_);
    metadata_ = std::move(header.metadata);
    for (TensorInfo& info : header.tensors) {
        const auto place = data.subspan(info.begin, info.end - info.begin);
        if (info.bytes) {
            byte_tensors_.emplace(std::move(info.name), ByteTensor{std::move(info.shape), place});
            continue;
        }
        TensorView view{info.dtype, std::move(info.shape), place.data()};
        const auto align = static_cast<size_t>(dtype_info(info.dtype).block_bytes);
        if (!place.empty() && std::bit_cast<uintptr_t>(place.data()) % align != 0) {
            realigned_.emplace_back(place.begin(), place.end());
            view.data = realigned_.back().data();
        }
        tensors_.emplace(std::move(info.name), std::move(view));
    }
}

const TensorView& SafetensorsFile::tensor(std::string_view name,
                                          const std::vector<int64_t>& shape) const {
    return require_tensor(tensors_, name, shape, name_, /*leading_ones=*/false);
}

}  // namespace muster
