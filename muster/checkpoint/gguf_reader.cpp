// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <optional>
#include <type_traits>

#include "muster/checkpoint/byte_cursor.h"
#include "muster/checkpoint/gguf.h"
#include "muster/checkpoint/gguf_types.h"
#include "muster/checkpoint/tensor_checks.h"
#include "muster/core/mapped_file.h"

namespace muster {
namespace {

using gguf::ValueType;

struct Counts {
    size_t tensors = 0;
    size_t metadata = 0;
};

/// A tensor as its file describes it; `offset` counts from the start of the tensor data.
struct TensorInfo {
    std::string name;
    DType dtype = DType::f32;
    std::vector<int64_t> shape;
    uint64_t offset = 0;
    uint64_t bytes = 0;
};

/// What metadata may take in memory, where each value is wider than in the file: vocabularies of a
/// quarter of a million tokens, with their merges, are 1 M values and 50 MB.
class MetadataBudget {
  public:
    /// Throws Error when it is too much.
    void take(const ByteCursor& cursor, size_t values, size_t bytes, std::string_view what) {
        constexpr size_t kMostValues = size_t{16} << 20, kMostBytes = size_t{256} << 20;
        if (values > kMostValues - values_ || bytes > kMostBytes - bytes_) {
            throw Error(cursor.where(),
                        fmt::format("has too much metadata at {}, expected at most {} values and "
                                    "{} bytes of memory in all",
                                    what, kMostValues, kMostBytes));
        }
        values_ += values;
        bytes_ += bytes;
    }

  private:
    size_t values_ = 0, bytes_ = 0;
};

Counts read_header(ByteCursor& cursor) {
    // The shortest of each: a key's length, one character, a type, a one-byte value; a name's
    // length, one character, the number of dimensions, one of them, a type, an offset.
    constexpr size_t kLeastMetadata = 8 + 1 + 4 + 1;
    constexpr size_t kLeastTensor = 8 + 1 + 4 + 8 + 4 + 8;
    const auto magic = cursor.take(gguf::kMagic.size(), "the magic number");
    const std::string_view text(reinterpret_cast<const char*>(magic.data()), magic.size());
    if (text != gguf::kMagic) {
        throw Error(cursor.where(), fmt::format("begins with {}, expected 'GGUF'", quote(text)));
    }
    const auto version = cursor.read<uint32_t>("the version");
    if (version != 0 && (version & 0xffff) == 0) {
        throw Error(cursor.where(), "is a big-endian GGUF file, expected a little-endian one");
    }
    if (version != 2 && version != 3) {
        throw Error(cursor.where(), fmt::format("is GGUF version {}, expected 2 or 3", version));
    }
    Counts counts;
    counts.tensors = cursor.count(kLeastTensor, "the number of tensors");
    counts.metadata = cursor.count(kLeastMetadata, "the number of metadata keys");
    return counts;
}

bool read_bool(ByteCursor& cursor, std::string_view what) {
    const auto byte = cursor.read<uint8_t>(what);
    if (byte > 1) {
        throw Error(cursor.where(),
                    fmt::format("{} is the byte {}, expected 0 or 1 (a bool)", what, byte));
    }
    return byte == 1;
}

/// Reads one value of the C++ type `Stored` and widens it to the type that is kept.
template <typename Stored>
auto read_as(ByteCursor& cursor, std::string_view what) {
    if constexpr (std::is_same_v<Stored, bool>) {
        return read_bool(cursor, what);
    } else if constexpr (std::is_same_v<Stored, std::string>) {
        return std::string(cursor.text(what));
    } else if constexpr (std::is_floating_point_v<Stored>) {
        return static_cast<double>(cursor.read<Stored>(what));
    } else if constexpr (std::is_unsigned_v<Stored>) {
        return static_cast<uint64_t>(cursor.read<Stored>(what));
    } else {
        return static_cast<int64_t>(cursor.read<Stored>(what));
    }
}

/// Calls f.template operator()<T>() with the C++ type of a file's value type; none for an array and
/// for a number that is no type.
template <typename F>
bool with_stored_type(uint32_t type, F&& f) {
    switch (static_cast<ValueType>(type)) {
        case ValueType::u8:
            f.template operator()<uint8_t>();
            return true;
        case ValueType::i8:
            f.template operator()<int8_t>();
            return true;
        case ValueType::u16:
            f.template operator()<uint16_t>();
            return true;
        case ValueType::i16:
            f.template operator()<int16_t>();
            return true;
        case ValueType::u32:
            f.template operator()<uint32_t>();
            return true;
        case ValueType::i32:
            f.template operator()<int32_t>();
            return true;
        case ValueType::f32:
            f.template operator()<float>();
            return true;
        case ValueType::boolean:
            f.template operator()<bool>();
            return true;
        case ValueType::string:
            f.template operator()<std::string>();
            return true;
        case ValueType::u64:
            f.template operator()<uint64_t>();
            return true;
        case ValueType::i64:
            f.template operator()<int64_t>();
            return true;
        case ValueType::f64:
            f.template operator()<double>();
            return true;
        case ValueType::array:
            return false;
    }
    return false;
}

[[noreturn]] void fail_value_type(const ByteCursor& cursor, std::string_view what, uint32_t type) {
    throw Error(cursor.where(),
                fmt::format("{} has the unknown type {}, expected 0 to 12", what, type));
}

/// `type`: of the values.
MetadataArray read_array(ByteCursor& cursor, MetadataBudget& budget, std::string_view what,
                         uint32_t& type) {
    type = cursor.read<uint32_t>(what);
    if (type == static_cast<uint32_t>(ValueType::array)) {
        throw Error(cursor.where(),
                    fmt::format("{} is an array of arrays, expected one dimension", what));
    }
    MetadataArray result;
    const bool known = with_stored_type(type, [&]<typename Stored>() {
        // A string takes at least its length.
        constexpr size_t kLeast = std::is_same_v<Stored, std::string> ? 8 : sizeof(Stored);
        const size_t count = cursor.count(kLeast, fmt::format("the length of {}", what));
        std::vector<decltype(read_as<Stored>(cursor, what))> values;
        budget.take(cursor, count, count * sizeof(read_as<Stored>(cursor, what)), what);
        values.reserve(count);
        for (size_t i = 0; i < count; ++i) {
            values.push_back(read_as<Stored>(cursor, what));
            if constexpr (std::is_same_v<Stored, std::string>)
                budget.take(cursor, 0, values.back().size(), what);
        }
        result = std::move(values);
    });
    if (!known) fail_value_type(cursor, what, type);
    return result;
}

/// `type`: of the value, or of an array's values.
MetadataValue read_value(ByteCursor& cursor, MetadataBudget& budget, std::string_view what,
                         uint32_t& type) {
    type = cursor.read<uint32_t>(what);
    if (type == static_cast<uint32_t>(ValueType::array))
        return read_array(cursor, budget, what, type);
    MetadataValue result;
    const bool known = with_stored_type(type, [&]<typename Stored>() {
        auto value = read_as<Stored>(cursor, what);
        if constexpr (std::is_same_v<Stored, std::string>)
            budget.take(cursor, 0, value.size(), what);
        result = std::move(value);
    });
    if (!known) fail_value_type(cursor, what, type);
    return result;
}

/// A key or name: neither empty nor longer than the specification allows.
std::string read_name(ByteCursor& cursor, size_t longest, std::string_view what) {
    const std::string_view text = cursor.text(what);
    if (text.empty() || text.size() > longest) {
        throw Error(cursor.where(),
                    fmt::format("{} has {} bytes, expected 1 to {}", what, text.size(), longest));
    }
    return std::string(text);
}

DType read_dtype(ByteCursor& cursor, const std::string& name) {
    const auto number = cursor.read<uint32_t>("the type of tensor " + quote(name));
    if (const auto dtype = gguf::dtype_of(number)) return *dtype;
    const std::string_view known = gguf::type_name(number);
    throw Error(cursor.where(),
                fmt::format("tensor {} has the type {}, expected one of {}", quote(name),
                            known.empty() ? fmt::format("{} (unknown)", number) : known,
                            gguf::supported_types()));
}

std::vector<int64_t> read_shape(ByteCursor& cursor, const std::string& name) {
    const std::string what = "the shape of tensor " + quote(name);
    const auto dimensions = cursor.read<uint32_t>(what);
    if (dimensions < 1 || dimensions > gguf::kMaxDimensions) {
        throw Error(cursor.where(), fmt::format("tensor {} has {} dimensions, expected 1 to {}",
                                                quote(name), dimensions, gguf::kMaxDimensions));
    }
    std::vector<int64_t> shape(dimensions);
    for (size_t i = dimensions; i-- > 0;) {  // the file begins with the fastest
        shape[i] = cursor.read<int64_t>(what);
        if (shape[i] < 1) {
            throw Error(cursor.where(),
                        fmt::format("tensor {} has a dimension of {}, expected 1 to 2^63 - 1",
                                    quote(name), static_cast<uint64_t>(shape[i])));
        }
    }
    return shape;
}

TensorInfo read_tensor_info(ByteCursor& cursor, size_t index) {
    TensorInfo info;
    info.name =
        read_name(cursor, gguf::kMaxName, fmt::format("the name of tensor number {}", index));
    info.shape = read_shape(cursor, info.name);
    info.dtype = read_dtype(cursor, info.name);
    info.offset = cursor.read<uint64_t>("the offset of tensor " + quote(info.name));
    const int64_t block = dtype_info(info.dtype).block_elements;
    if (info.shape.back() % block != 0) {
        throw Error(
            cursor.where(),
            fmt::format("tensor {} has rows of {} values, expected a multiple of {} ({})",
                        quote(info.name), info.shape.back(), block, dtype_info(info.dtype).name));
    }
    const auto bytes = checked_bytes(info.dtype, info.shape);
    if (!bytes) {
        throw Error(cursor.where(),
                    fmt::format("tensor {} of shape {} has more than 2^63 - 1 bytes",
                                quote(info.name), shape_text(info.shape)));
    }
    info.bytes = static_cast<uint64_t>(*bytes);
    return info;
}

/// Each tensor lies inside `data`, on the alignment.
void check_place(const TensorInfo& info, uint64_t data, uint64_t alignment,
                 std::string_view where) {
    if (info.offset % alignment != 0) {
        throw Error(where, fmt::format("tensor {} lies at offset {}, expected a multiple of {}",
                                       quote(info.name), info.offset, alignment));
    }
    if (info.offset > data || info.bytes > data - info.offset) {
        throw Error(where,
                    fmt::format("tensor {} has {} bytes from offset {}, but the file has only {} "
                                "bytes of tensor data",
                                quote(info.name), info.bytes, info.offset, data));
    }
}

void check_no_overlap(std::vector<const TensorInfo*> infos, std::string_view where) {
    std::ranges::sort(infos, {}, &TensorInfo::offset);
    for (size_t i = 1; i < infos.size(); ++i) {
        const TensorInfo& before = *infos[i - 1];
        if (infos[i]->offset - before.offset < before.bytes) {
            throw Error(where, fmt::format("tensors {} and {} overlap", quote(before.name),
                                           quote(infos[i]->name)));
        }
    }
}

}  // namespace

GgufFile::GgufFile(const std::filesystem::path& path) : WeightMap(path.string()) {
    const auto file = std::make_shared<MappedFile>(path);
    keep_mapped(file);
    parse(file->bytes());
}

GgufFile::GgufFile(std::span<const std::byte> bytes, std::string name)
    : WeightMap(std::move(name)) {
    parse(bytes);
}

void GgufFile::parse(std::span<const std::byte> bytes) {
    // Together with the least alignment of tensors, 8: views are aligned to their elements.
    MUSTER_ASSERT(std::bit_cast<uintptr_t>(bytes.data()) % 8 == 0);
    ByteCursor cursor(bytes, name());
    const Counts counts = read_header(cursor);
    MetadataBudget budget;
    for (size_t i = 0; i < counts.metadata; ++i) {
        const std::string what = fmt::format("the key of metadata number {}", i);
        std::string key = read_name(cursor, gguf::kMaxKey, what);
        budget.take(cursor, 1, key.size() + sizeof(MetadataValue), what);
        uint32_t type = 0;
        MetadataValue value = read_value(cursor, budget, "the value of " + quote(key), type);
        set(std::move(key), std::move(value), type);
    }
    std::vector<TensorInfo> infos;
    infos.reserve(counts.tensors);
    for (size_t i = 0; i < counts.tensors; ++i) infos.push_back(read_tensor_info(cursor, i));

    uint64_t alignment = gguf::kAlignment;
    if (has(gguf::kAlignmentKey)) {
        constexpr int64_t kGreatest = 1 << 20;
        alignment = static_cast<uint64_t>(integer(gguf::kAlignmentKey, 8, kGreatest));
        if (!std::has_single_bit(alignment)) {
            throw Error(name(),
                        fmt::format("general.alignment is {}, expected a power of two", alignment));
        }
    }
    const uint64_t start = gguf::align_up(cursor.position(), alignment);
    const uint64_t data = bytes.size() - std::min<uint64_t>(start, bytes.size());
    std::vector<const TensorInfo*> by_offset;
    for (const TensorInfo& info : infos) {
        check_place(info, data, alignment, name());
        by_offset.push_back(&info);
        add(info.name, TensorView{info.dtype, info.shape, bytes.data() + start + info.offset});
    }
    check_no_overlap(std::move(by_offset), name());
}

}  // namespace muster
