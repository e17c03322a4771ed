// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "muster/checkpoint/safetensors.h"
#include "muster/checkpoint/safetensors_header.h"
#include "muster/checkpoint/tensor_checks.h"
#include "muster/core/atomic_file.h"

namespace muster {
namespace {

/// A JSON string; text that is no UTF-8 throws Error.
std::string json_string(const std::string& text, std::string_view where) {
    try {
        return nlohmann::json(text).dump();
    } catch (const nlohmann::json::exception&) {
        throw Error(where, "cannot store the text " + quote(text) + ", expected UTF-8");
    }
}

[[noreturn]] void refuse(std::string_view where, const std::string& name, const std::string& what) {
    throw Error(where, fmt::format("cannot store tensor {}: {}", quote(name), what));
}

std::string_view format_name(const MadeTensor& tensor) {
    return tensor.dtype ? safetensors::dtype_name(*tensor.dtype) : safetensors::kBytesName;
}

/// Bytes of a tensor that safetensors can hold; throws Error otherwise.
uint64_t storable_bytes(const MadeTensor& tensor, std::string_view where) {
    if (tensor.name == safetensors::kMetadataKey)
        refuse(where, tensor.name, "its name is reserved");
    if (format_name(tensor).empty()) {
        refuse(where, tensor.name,
               fmt::format("its format is {}, expected f32, f16, bf16 or i32",
                           dtype_info(*tensor.dtype).name));
    }
    const auto bytes = safetensors::tensor_bytes(
        {"", tensor.dtype.value_or(DType::f32), !tensor.dtype, tensor.shape, 0, 0});
    if (!bytes || tensor.shape.size() > safetensors::kMaxDimensions) {
        refuse(where, tensor.name,
               fmt::format("its shape is {}, expected at most {} dimensions from 0 and less than "
                           "2^63 bytes",
                           shape_text(tensor.shape), safetensors::kMaxDimensions));
    }
    return static_cast<uint64_t>(*bytes);
}

/// Wider elements first, so that each lies on a multiple of its size.
std::vector<const MadeTensor*> in_order(const std::vector<MadeTensor>& tensors) {
    std::vector<const MadeTensor*> order;
    order.reserve(tensors.size());
    for (const MadeTensor& tensor : tensors) order.push_back(&tensor);
    std::ranges::stable_sort(order, std::ranges::greater{}, [](const MadeTensor* t) {
        return t->dtype ? dtype_info(*t->dtype).block_bytes : 1;
    });
    return order;
}

std::string header_of(const std::vector<const MadeTensor*>& order,
                      const std::map<std::string, std::string>& metadata,
                      const std::string& where) {
    constexpr size_t kDataAlignment = 64;
    std::string text = "{";
    if (!metadata.empty()) {
        text += fmt::format("\"{}\":{{", safetensors::kMetadataKey);
        for (const auto& [key, value] : metadata) {
            if (text.back() != '{') text += ',';
            text += json_string(key, where) + ':' + json_string(value, where);
        }
        text += '}';
    }
    std::set<std::string_view> names;
    uint64_t offset = 0;
    for (const MadeTensor* tensor : order) {
        if (!names.insert(tensor->name).second) {
            throw Error(where, "is given the tensor " + quote(tensor->name) + " twice");
        }
        const uint64_t end = offset + storable_bytes(*tensor, where);
        text += fmt::format(R"({}{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                            text.size() == 1 ? "" : ",", json_string(tensor->name, where),
                            format_name(*tensor), fmt::join(tensor->shape, ","), offset, end);
        offset = end;
    }
    text += '}';
    const size_t unaligned = (safetensors::kLengthBytes + text.size()) % kDataAlignment;
    if (unaligned != 0) text.append(kDataAlignment - unaligned, ' ');
    if (text.size() > safetensors::kMaxHeader) {
        throw Error(where, fmt::format("would have a header of {} bytes, expected at most {}",
                                       text.size(), safetensors::kMaxHeader));
    }
    return text;
}

}  // namespace

int64_t MadeTensor::bytes() const noexcept {
    int64_t elements = 1;
    for (const int64_t d : shape) elements *= d;
    return dtype ? dtype_bytes(*dtype, elements) : elements;
}

void write_made_safetensors(const std::filesystem::path& path,
                            const std::vector<MadeTensor>& tensors,
                            const std::map<std::string, std::string>& metadata,
                            const std::function<void(int64_t)>& written) {
    const std::string where = path.string();
    const std::vector<const MadeTensor*> order = in_order(tensors);
    const std::string text = header_of(order, metadata, where);
    AtomicFile file(path);
    const uint64_t length = text.size();
    file.write(std::as_bytes(std::span(&length, 1)));
    file.write(text);
    for (const MadeTensor* tensor : order) {
        const auto bytes = static_cast<uint64_t>(tensor->bytes());
        uint64_t done = 0;
        tensor->make([&](std::span<const std::byte> piece) {
            if (piece.size() > bytes - done)
                refuse(where, tensor->name, fmt::format("more than its {} bytes were made", bytes));
            file.write(piece);
            done += piece.size();
            if (written) written(static_cast<int64_t>(piece.size()));
        });
        if (done != bytes)
            refuse(where, tensor->name, fmt::format("{} of its {} bytes were made", done, bytes));
    }
    file.commit();
}

void write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
    std::vector<MadeTensor> made;
    made.reserve(tensors.size());
    for (const NamedTensor& tensor : tensors) {
        const TensorView& view = tensor.view;
        made.push_back({tensor.name, view.dtype, view.shape, [&view](const MadeTensor::Sink& sink) {
                            MUSTER_ASSERT(view.data != nullptr || view.bytes() == 0);
                            sink({view.data, static_cast<size_t>(view.bytes())});
                        }});
    }
    write_made_safetensors(path, made, metadata);
}

std::vector<std::vector<MadeTensor>> shards_of(const std::vector<MadeTensor>& tensors,
                                               uint64_t most) {
    std::vector<std::vector<MadeTensor>> shards(1);
    uint64_t bytes = 0;
    for (const MadeTensor& t : tensors) {
        const auto size = static_cast<uint64_t>(t.bytes());
        if (!shards.back().empty() && bytes + size > most) {
            shards.emplace_back();
            bytes = 0;
        }
        bytes += size;
        shards.back().push_back(t);
    }
    return shards;
}

}  // namespace muster
