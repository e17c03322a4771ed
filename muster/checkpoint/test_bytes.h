// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "muster/checkpoint/gguf_types.h"
#include "muster/checkpoint/validate.h"
#include "muster/core/random.h"

/// Checkpoint bytes put together by hand, right or wrong, for tests and fuzzing seeds.
namespace muster::testing_bytes {

/// Appends little-endian values; each method returns the object.
class Bytes {
  public:
    template <typename T>
    Bytes& put(T value) {
        text_.append(reinterpret_cast<const char*>(&value), sizeof(value));
        return *this;
    }
    Bytes& raw(std::string_view text) {
        text_.append(text);
        return *this;
    }
    /// A GGUF string.
    Bytes& text(std::string_view value) { return put(uint64_t{value.size()}).raw(value); }
    /// The beginning of a GGUF file.
    Bytes& gguf(uint64_t tensors, uint64_t metadata, uint32_t version = 3) {
        return raw("GGUF").put(version).put(tensors).put(metadata);
    }
    /// A metadata key and its type; the value follows.
    Bytes& key(std::string_view name, gguf::ValueType type) {
        return text(name).put(static_cast<uint32_t>(type));
    }
    /// A key of an array; the values follow.
    Bytes& array(std::string_view name, gguf::ValueType type, uint64_t count) {
        return key(name, gguf::ValueType::array).put(static_cast<uint32_t>(type)).put(count);
    }
    /// A tensor's description; `ne` begins with the fastest dimension.
    Bytes& tensor(std::string_view name, const std::vector<uint64_t>& ne, uint32_t type,
                  uint64_t offset) {
        text(name).put(static_cast<uint32_t>(ne.size()));
        for (const uint64_t n : ne) put(n);
        return put(type).put(offset);
    }
    Bytes& pad(size_t alignment = gguf::kAlignment) {
        text_.resize(gguf::align_up(text_.size(), alignment));
        return *this;
    }
    Bytes& zeros(size_t count) {
        text_.append(count, '\0');
        return *this;
    }

    const std::string& str() const { return text_; }

  private:
    std::string text_;
};

/// A safetensors file of a header and `data` zero bytes.
inline std::string safetensors_bytes(std::string_view json, size_t data) {
    return Bytes().put(uint64_t{json.size()}).raw(json).zeros(data).str();
}

/// A GGUF file with a value of every type and a tensor of every format, ending in its last tensor.
inline std::string full_gguf() {
    using enum gguf::ValueType;
    Bytes b;
    b.gguf(5, 16).key("general.architecture", string).text("test");
    b.key("u8", u8).put(uint8_t{8}).key("i8", i8).put(int8_t{-8});
    b.key("u16", u16).put(uint16_t{16}).key("i16", i16).put(int16_t{-16});
    b.key("u32", u32).put(uint32_t{32}).key("i32", i32).put(int32_t{-32});
    b.key("u64", u64).put(uint64_t{64}).key("i64", i64).put(int64_t{-64});
    b.key("f32", f32).put(0.5f).key("f64", f64).put(0.25).key("bool", boolean).put(uint8_t{1});
    b.array("strings", string, 2).text("one").text("");
    b.array("u8s", u8, 3).put(uint8_t{1}).put(uint8_t{2}).put(uint8_t{3});
    b.array("f64s", f64, 1).put(1.5).array("bools", boolean, 2).put(uint8_t{0}).put(uint8_t{1});
    b.tensor("f32", {3}, 0, 0).tensor("f16", {3, 5}, 1, 32).tensor("bf16", {1, 3, 2}, 30, 64);
    b.tensor("q8_0", {32, 3, 1, 2}, 8, 96).tensor("i32", {8}, 26, 320);
    return b.pad().zeros(352).str();
}

/// A safetensors file with metadata and a tensor of every format.
inline std::string full_safetensors() {
    return safetensors_bytes(R"({"__metadata__":{"format":"pt","a\u00e9":""},)"
                             R"("f32":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                             R"("i32":{"data_offsets":[24,28],"dtype":"I32","shape":[]},)"
                             R"("f16":{"dtype":"F16","shape":[5],"data_offsets":[28,38]},)"
                             R"("bf16":{"dtype":"BF16","shape":[1,1,1],"data_offsets":[38,40]},)"
                             R"("none":{"dtype":"F32","shape":[3,0],"data_offsets":[40,40]}}  )",
                             40);
}

/// Opens `file`, hands it to `inspect` and reads every byte of every tensor, from memory of exactly
/// its size so that sanitizers see each step beyond it. Throws Error.
template <typename File, typename Inspect>
void open_all(std::string_view file, Inspect&& inspect) {
    std::vector<std::byte> bytes(file.size());
    if (!file.empty()) std::memcpy(bytes.data(), file.data(), file.size());
    const File opened(bytes, "test");
    inspect(opened);
    for (const auto& [name, view] : opened.tensors()) {
        volatile bool bad = has_non_finite(view);
        volatile char last = 0;
        const auto size = static_cast<size_t>(view.bytes());
        for (size_t i = 0; i < size; ++i) last = static_cast<char>(view.data[i]);
        static_cast<void>(bad);
        static_cast<void>(last);
    }
}

template <typename File>
void open_all(std::string_view file) {
    open_all<File>(file, [](const File&) {});
}

/// `file` with one to four of its bits or bytes changed.
inline std::string damaged(std::string file, Random& random) {
    for (uint64_t i = 1 + random.below(4); i > 0; --i) {
        char& byte = file[random.below(file.size())];
        if (random.below(2) == 0) {
            byte = static_cast<char>(byte ^ (1 << random.below(8)));
        } else {
            byte = static_cast<char>(random.below(256));
        }
    }
    return file;
}

}  // namespace muster::testing_bytes
