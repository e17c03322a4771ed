// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

#include "muster/checkpoint/byte_cursor.h"  // asserts that this machine is little-endian
#include "muster/checkpoint/gguf.h"
#include "muster/checkpoint/gguf_types.h"
#include "muster/checkpoint/tensor_checks.h"
#include "muster/core/atomic_file.h"

namespace muster {
namespace {

using gguf::ValueType;

template <typename T>
    requires std::is_arithmetic_v<T>
void put(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void put(std::string& out, ValueType type) { put(out, static_cast<uint32_t>(type)); }

void put(std::string& out, std::string_view text) {
    put(out, uint64_t{text.size()});
    out.append(text);
}

template <typename T>
std::string encoded(ValueType type, const T& value) {
    std::string out;
    put(out, type);
    put(out, value);
    return out;
}

template <typename T>
std::string encoded_array(ValueType type, const std::vector<T>& values) {
    std::string out;
    put(out, ValueType::array);
    put(out, type);
    put(out, uint64_t{values.size()});
    for (const T& value : values) put(out, value);
    return out;
}

void check_finite(std::string_view key, float value) {
    if (!std::isfinite(value)) {
        throw Error("gguf", fmt::format("metadata key {} is {}, expected a finite number",
                                        quote(key), value));
    }
}

[[noreturn]] void refuse(std::string_view where, std::string_view name, const std::string& what) {
    throw Error(where, fmt::format("cannot store tensor {}: {}", quote(name), what));
}

/// Bytes of a tensor that GGUF can hold; throws Error otherwise.
uint64_t storable_bytes(std::string_view name, const TensorView& view, std::optional<size_t> given,
                        std::string_view where) {
    if (name.empty() || name.size() > gguf::kMaxOurName) {
        refuse(
            where, name,
            fmt::format("its name has {} bytes, expected 1 to {}", name.size(), gguf::kMaxOurName));
    }
    const bool positive = std::ranges::all_of(view.shape, [](int64_t d) { return d >= 1; });
    if (view.shape.empty() || view.shape.size() > gguf::kMaxDimensions || !positive) {
        refuse(where, name,
               fmt::format("its shape is {}, expected 1 to {} dimensions of at least 1",
                           shape_text(view.shape), gguf::kMaxDimensions));
    }
    const auto bytes = checked_bytes(view.dtype, view.shape);
    if (!bytes) {
        const DTypeInfo& info = dtype_info(view.dtype);
        refuse(where, name,
               fmt::format("its shape is {}, expected rows of whole blocks of {} values ({}) and "
                           "less than 2^63 bytes",
                           shape_text(view.shape), info.block_elements, info.name));
    }
    if (given && *given != static_cast<uint64_t>(*bytes)) {
        refuse(where, name, fmt::format("it has {} bytes, expected {}", *given, *bytes));
    }
    MUSTER_ASSERT(view.data != nullptr);
    return static_cast<uint64_t>(*bytes);
}

void write_padding(AtomicFile& file) {
    static constexpr std::array<std::byte, gguf::kAlignment> kZeros{};
    const size_t padding = gguf::align_up(file.size(), gguf::kAlignment) - file.size();
    file.write(std::span(kZeros).first(padding));
}

}  // namespace

void GgufWriter::set(std::string key, std::string encoded_value) {
    if (key.empty() || key.size() > gguf::kMaxKey) {
        throw Error("gguf", fmt::format("a metadata key has {} bytes, expected 1 to {}", key.size(),
                                        gguf::kMaxKey));
    }
    if (key == gguf::kAlignmentKey &&
        encoded_value != encoded(ValueType::u32, uint32_t{gguf::kAlignment})) {
        throw Error("gguf", "general.alignment must be 32, which is what this writer uses");
    }
    const auto same = [&](const auto& entry) { return entry.first == key; };
    const auto found = std::find_if(metadata_.begin(), metadata_.end(), same);
    if (found != metadata_.end()) {
        found->second = std::move(encoded_value);
    } else {
        metadata_.emplace_back(std::move(key), std::move(encoded_value));
    }
}

void GgufWriter::set_u32(std::string key, uint32_t value) {
    set(std::move(key), encoded(ValueType::u32, value));
}

void GgufWriter::set_f32(std::string key, float value) {
    check_finite(key, value);
    set(std::move(key), encoded(ValueType::f32, value));
}

void GgufWriter::set_bool(std::string key, bool value) {
    set(std::move(key), encoded(ValueType::boolean, static_cast<uint8_t>(value)));
}

void GgufWriter::set_string(std::string key, std::string_view value) {
    set(std::move(key), encoded(ValueType::string, value));
}

void GgufWriter::set_strings(std::string key, const std::vector<std::string>& values) {
    set(std::move(key), encoded_array(ValueType::string, values));
}

void GgufWriter::set_f32s(std::string key, const std::vector<float>& values) {
    for (const float value : values) check_finite(key, value);
    set(std::move(key), encoded_array(ValueType::f32, values));
}

void GgufWriter::set_i32s(std::string key, const std::vector<int32_t>& values) {
    set(std::move(key), encoded_array(ValueType::i32, values));
}

void GgufWriter::add_tensor(std::string name, TensorView tensor) {
    MUSTER_ASSERT(names_.insert(name).second);
    tensors_.push_back({std::move(name), std::move(tensor), std::nullopt});
}

void GgufWriter::add_tensor(std::string name, DType dtype, std::vector<int64_t> shape,
                            std::vector<std::byte> bytes) {
    owned_.push_back(std::move(bytes));
    add_tensor(std::move(name), TensorView{dtype, std::move(shape), owned_.back().data()});
    tensors_.back().given = owned_.back().size();
}

std::string GgufWriter::header(std::string_view where) const {
    std::string out(gguf::kMagic);
    put(out, gguf::kVersion);
    put(out, uint64_t{tensors_.size()});
    put(out, uint64_t{metadata_.size()});
    for (const auto& [key, value] : metadata_) {
        put(out, std::string_view(key));
        out += value;
    }
    uint64_t offset = 0;
    for (const Entry& entry : tensors_) {
        const uint64_t bytes = storable_bytes(entry.name, entry.view, entry.given, where);
        put(out, std::string_view(entry.name));
        put(out, static_cast<uint32_t>(entry.view.shape.size()));
        for (size_t i = entry.view.shape.size(); i-- > 0;) put(out, entry.view.shape[i]);
        put(out, gguf::type_number(entry.view.dtype));
        put(out, offset);
        // Cannot overflow: the bytes of all tensors lie in memory.
        offset = gguf::align_up(offset + bytes, gguf::kAlignment);
    }
    return out;
}

void GgufWriter::write(const std::filesystem::path& path) const {
    const std::string head = header(path.string());
    AtomicFile file(path);
    file.write(head);
    write_padding(file);
    for (const Entry& entry : tensors_) {
        file.write({entry.view.data, static_cast<size_t>(entry.view.bytes())});
        write_padding(file);
    }
    file.commit();
}

}  // namespace muster
