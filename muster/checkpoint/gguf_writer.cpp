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

/// Calls f with a value of the C++ type that a file's value type stands for.
template <typename F>
std::string with_type(ValueType type, F&& f) {
    switch (type) {
        case ValueType::u8:
            return f(uint8_t{});
        case ValueType::i8:
            return f(int8_t{});
        case ValueType::u16:
            return f(uint16_t{});
        case ValueType::i16:
            return f(int16_t{});
        case ValueType::u32:
            return f(uint32_t{});
        case ValueType::i32:
            return f(int32_t{});
        case ValueType::u64:
            return f(uint64_t{});
        case ValueType::i64:
            return f(int64_t{});
        case ValueType::f64:
            return f(double{});
        default:
            return f(float{});
    }
}

template <typename T>
struct IsVector : std::false_type {};
template <typename T>
struct IsVector<std::vector<T>> : std::true_type {};

/// The value in the type `stored`, which must be wide enough.
template <typename T>
std::string encoded_number(const T& value, ValueType stored) {
    if constexpr (IsVector<T>::value) {
        return with_type(stored, [&](auto kind) {
            const std::vector<decltype(kind)> narrow(value.begin(), value.end());
            return encoded_array(stored, narrow);
        });
    } else {
        return with_type(
            stored, [&](auto kind) { return encoded(stored, static_cast<decltype(kind)>(value)); });
    }
}

/// The narrowest of GGUF's usual types that holds all the values.
template <typename T>
ValueType usual_type(const T& value) {
    if constexpr (IsVector<T>::value) {
        ValueType widest = usual_type(typename T::value_type{});
        for (const auto& v : value) widest = std::max(widest, usual_type(v));
        return widest;
    } else if constexpr (std::is_floating_point_v<T>) {
        return ValueType::f32;
    } else if constexpr (std::is_unsigned_v<T>) {
        return value <= UINT32_MAX ? ValueType::u32 : ValueType::u64;
    } else {
        return value >= INT32_MIN && value <= INT32_MAX ? ValueType::i32 : ValueType::i64;
    }
}

std::string encoded_value(const MetadataValue& value, std::optional<uint32_t> stored) {
    const auto encode = [&]<typename T>(const T& v) -> std::string {
        if constexpr (std::is_same_v<T, bool>) {
            return encoded(ValueType::boolean, static_cast<uint8_t>(v));
        } else if constexpr (std::is_same_v<T, std::string>) {
            return encoded(ValueType::string, v);
        } else if constexpr (std::is_same_v<T, std::vector<bool>>) {
            return encoded_array(ValueType::boolean, std::vector<uint8_t>(v.begin(), v.end()));
        } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
            return encoded_array(ValueType::string, v);
        } else {
            return encoded_number(v, stored ? static_cast<ValueType>(*stored) : usual_type(v));
        }
    };
    return std::visit(
        [&]<typename T>(const T& v) {
            if constexpr (std::is_same_v<T, MetadataArray>)
                return std::visit(encode, v);
            else
                return encode(v);
        },
        value);
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

void GgufWriter::set_u16(std::string key, uint16_t value) {
    set(std::move(key), encoded(ValueType::u16, value));
}

void GgufWriter::set_i32(std::string key, int32_t value) {
    set(std::move(key), encoded(ValueType::i32, value));
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

void GgufWriter::copy(const WeightMap& from, std::string_view key) {
    const auto found = from.metadata().find(key);
    if (found == from.metadata().end())
        throw Error(from.name(), "has no metadata key " + quote(key));
    set(found->first, encoded_value(found->second, from.stored_type(key)));
}

void GgufWriter::add_tensor(std::string name, TensorView tensor) {
    MUSTER_ASSERT(names_.insert(name).second);
    MUSTER_ASSERT(tensor.data != nullptr);
    tensors_.push_back({std::move(name), std::move(tensor), std::nullopt, {}});
}

void GgufWriter::add_tensor(std::string name, DType dtype, std::vector<int64_t> shape,
                            std::vector<std::byte> bytes) {
    owned_.push_back(std::move(bytes));
    MUSTER_ASSERT(names_.insert(name).second);
    tensors_.push_back({std::move(name),
                        {dtype, std::move(shape), owned_.back().data()},
                        owned_.back().size(),
                        {}});
}

void GgufWriter::add_tensor(std::string name, DType dtype, std::vector<int64_t> shape,
                            Produce produce) {
    MUSTER_ASSERT(names_.insert(name).second);
    tensors_.push_back(
        {std::move(name), {dtype, std::move(shape), nullptr}, std::nullopt, std::move(produce)});
}

/// Where the bytes of tensors go, counted for the progress.
class GgufWriter::Output {
  public:
    Output(std::span<const Entry> tensors, std::string_view where, const Progress& progress)
        : progress_(progress) {
        for (const Entry& entry : tensors)
            total_ += storable_bytes(entry.name, entry.view, entry.given, where);
    }

    void write(const Entry& entry, AtomicFile& file, std::string_view where) {
        const auto bytes = static_cast<uint64_t>(entry.view.bytes());
        uint64_t written = 0;
        const Sink sink = [&](std::span<const std::byte> piece) {
            if (piece.size() > bytes - written) {
                refuse(where, entry.name, fmt::format("more than its {} bytes were made", bytes));
            }
            // Pieces of a size at which progress still moves.
            constexpr size_t kStep = size_t{16} << 20;
            while (!piece.empty()) {
                const auto step = piece.first(std::min(kStep, piece.size()));
                file.write(step);
                piece = piece.subspan(step.size());
                written += step.size();
                done_ += step.size();
                if (progress_ && !progress_("writing tensors", static_cast<int64_t>(done_),
                                            static_cast<int64_t>(total_))) {
                    throw Error(where, "writing was stopped");
                }
            }
        };
        if (entry.produce) {
            entry.produce(sink);
        } else {
            sink({entry.view.data, static_cast<size_t>(bytes)});
        }
        if (written != bytes) {
            refuse(where, entry.name,
                   fmt::format("{} bytes were made, expected {}", written, bytes));
        }
        write_padding(file);
    }

  private:
    const Progress& progress_;
    uint64_t done_ = 0;
    uint64_t total_ = 0;
};

std::string GgufWriter::header(const Metadata& metadata, std::span<const Entry> tensors,
                               std::string_view where) {
    std::string out(gguf::kMagic);
    put(out, gguf::kVersion);
    put(out, uint64_t{tensors.size()});
    put(out, uint64_t{metadata.size()});
    for (const auto& [key, value] : metadata) {
        put(out, std::string_view(key));
        out += value;
    }
    uint64_t offset = 0;
    for (const Entry& entry : tensors) {
        const uint64_t bytes = storable_bytes(entry.name, entry.view, entry.given, where);
        put(out, std::string_view(entry.name));
        put(out, static_cast<uint32_t>(entry.view.shape.size()));
        for (size_t i = entry.view.shape.size(); i-- > 0;) put(out, entry.view.shape[i]);
        put(out, gguf::type_number(entry.view.dtype));
        put(out, offset);
        if (bytes > (uint64_t{1} << 62) - offset) {
            throw Error(where, "the tensors have more than 2^62 bytes together");
        }
        offset = gguf::align_up(offset + bytes, gguf::kAlignment);
    }
    return out;
}

void GgufWriter::write_part(const std::filesystem::path& path, const Metadata& metadata,
                            std::span<const Entry> tensors, Output& output) {
    const std::string where = path.string();
    const std::string head = header(metadata, tensors, where);
    AtomicFile file(path);
    file.write(head);
    write_padding(file);
    for (const Entry& entry : tensors) output.write(entry, file, where);
    file.commit();
}

void GgufWriter::write(const std::filesystem::path& path, const Progress& progress) const {
    Output output(tensors_, path.string(), progress);
    write_part(path, metadata_, tensors_, output);
}

std::vector<std::filesystem::path> GgufWriter::write_split(const std::filesystem::path& path,
                                                           uint64_t most_bytes,
                                                           const Progress& progress) const {
    Output output(tensors_, path.string(), progress);
    const std::span<const Entry> all = tensors_;
    std::vector<size_t> ends;
    uint64_t held = 0;
    for (size_t i = 0; i < all.size(); ++i) {
        const auto bytes =
            gguf::align_up(static_cast<uint64_t>(all[i].view.bytes()), gguf::kAlignment);
        if (held > 0 && bytes > most_bytes - std::min(held, most_bytes)) {
            ends.push_back(i);
            held = 0;
        }
        held += bytes;
    }
    ends.push_back(all.size());
    if (ends.size() == 1) {
        write_part(path, metadata_, all, output);
        return {path};
    }
    if (ends.size() > gguf::kMaxParts) {
        throw Error(path.string(), fmt::format("would have {} parts, expected at most {}",
                                               ends.size(), gguf::kMaxParts));
    }
    std::vector<std::filesystem::path> paths;
    size_t begin = 0;
    for (size_t part = 0; part < ends.size(); ++part) {
        Metadata metadata = part == 0 ? metadata_ : Metadata{};
        metadata.emplace_back(gguf::kSplitNumber,
                              encoded(ValueType::u16, static_cast<uint16_t>(part)));
        metadata.emplace_back(gguf::kSplitTensors,
                              encoded(ValueType::i32, static_cast<int32_t>(all.size())));
        metadata.emplace_back(gguf::kSplitCount,
                              encoded(ValueType::u16, static_cast<uint16_t>(ends.size())));
        paths.push_back(split_path(path, static_cast<int>(part), static_cast<int>(ends.size())));
        write_part(paths.back(), metadata, all.subspan(begin, ends[part] - begin), output);
        begin = ends[part];
    }
    return paths;
}

}  // namespace muster
