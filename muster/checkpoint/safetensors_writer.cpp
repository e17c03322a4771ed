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

/// Bytes of a tensor that safetensors can hold; throws Error otherwise.
uint64_t storable_bytes(const NamedTensor& tensor, std::string_view where) {
    const TensorView& view = tensor.view;
    if (tensor.name == safetensors::kMetadataKey)
        refuse(where, tensor.name, "its name is reserved");
    if (safetensors::dtype_name(view.dtype).empty()) {
        refuse(where, tensor.name,
               fmt::format("its format is {}, expected f32, f16, bf16 or i32",
                           dtype_info(view.dtype).name));
    }
    const auto bytes = checked_bytes(view.dtype, view.shape);
    if (!bytes || view.shape.size() > safetensors::kMaxDimensions) {
        refuse(where, tensor.name,
               fmt::format("its shape is {}, expected at most {} dimensions from 0 and less than "
                           "2^63 bytes",
                           shape_text(view.shape), safetensors::kMaxDimensions));
    }
    MUSTER_ASSERT(view.data != nullptr || *bytes == 0);
    return static_cast<uint64_t>(*bytes);
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
    constexpr size_t kDataAlignment = 64;
    const std::string where = path.string();
    std::vector<const NamedTensor*> order;
    order.reserve(tensors.size());
    for (const NamedTensor& tensor : tensors) order.push_back(&tensor);
    std::ranges::stable_sort(order, std::ranges::greater{}, [](const NamedTensor* t) {
        return dtype_info(t->view.dtype).block_bytes;
    });

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
    for (const NamedTensor* tensor : order) {
        if (!names.insert(tensor->name).second) {
            throw Error(where, "is given the tensor " + quote(tensor->name) + " twice");
        }
        const uint64_t end = offset + storable_bytes(*tensor, where);
        text += fmt::format(R"({}{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                            text.size() == 1 ? "" : ",", json_string(tensor->name, where),
                            safetensors::dtype_name(tensor->view.dtype),
                            fmt::join(tensor->view.shape, ","), offset, end);
        offset = end;
    }
    text += '}';
    const size_t unaligned = (safetensors::kLengthBytes + text.size()) % kDataAlignment;
    if (unaligned != 0) text.append(kDataAlignment - unaligned, ' ');
    if (text.size() > safetensors::kMaxHeader) {
        throw Error(where, fmt::format("would have a header of {} bytes, expected at most {}",
                                       text.size(), safetensors::kMaxHeader));
    }

    AtomicFile file(path);
    const uint64_t length = text.size();
    file.write(std::as_bytes(std::span(&length, 1)));
    file.write(text);
    for (const NamedTensor* tensor : order) {
        file.write({tensor->view.data, static_cast<size_t>(tensor->view.bytes())});
    }
    file.commit();
}

}  // namespace muster
