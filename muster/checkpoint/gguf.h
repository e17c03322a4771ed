// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "muster/core/mapped_file.h"
#include "muster/core/tensor_view.h"

namespace muster {

struct GgufArray;
/// A metadata value of a GGUF file (all integer widths are kept as int64/uint64, floats as double).
using GgufValue = std::variant<uint64_t, int64_t, double, bool, std::string, GgufArray>;

/// A one-dimensional array value; exactly one of the vectors is in use, by its element kind.
struct GgufArray {
    std::variant<std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>,
                 std::vector<bool>, std::vector<std::string>>
        values;
};

/// A GGUF file (version 2 or 3, little-endian), memory-mapped and checked: magic, version, counts,
/// string and array lengths, types, tensor dimensions (overflow), offsets, alignment, ends.
/// Untrusted input: any damage throws Error with one sentence; nothing is read beyond the file.
/// Views live as long as the object. Specification: github.com/ggml-org/ggml docs/gguf.md. Safe to
/// read from several threads.
class GgufFile {
  public:
    explicit GgufFile(const std::filesystem::path& path);
    /// Parses bytes the caller keeps alive (tests, fuzzing); `name` stands in messages.
    GgufFile(std::span<const std::byte> bytes, std::string name);

    const std::string& name() const noexcept { return name_; }
    const std::map<std::string, GgufValue, std::less<>>& metadata() const noexcept {
        return metadata_;
    }
    /// Tensors by name; shapes are row-major (GGUF's ne reversed).
    const std::map<std::string, TensorView, std::less<>>& tensors() const noexcept {
        return tensors_;
    }

    bool has(std::string_view key) const { return metadata_.find(key) != metadata_.end(); }
    /// Typed access; throws Error naming the key when it is missing, of another type or out of
    /// range.
    int64_t integer(std::string_view key, int64_t low = 0, int64_t high = INT32_MAX) const;
    double real(std::string_view key) const;
    bool boolean(std::string_view key) const;
    const std::string& string(std::string_view key) const;
    const std::vector<std::string>& strings(std::string_view key) const;
    std::vector<double> reals(std::string_view key) const;      ///< any numeric array
    std::vector<int64_t> integers(std::string_view key) const;  ///< any integer array

    /// The tensor `name`; throws Error when it is missing or its shape differs from `shape`
    /// (row-major).
    const TensorView& tensor(std::string_view name, const std::vector<int64_t>& shape) const;

  private:
    void parse(std::span<const std::byte> bytes);

    MappedFile file_;
    std::string name_;
    std::map<std::string, GgufValue, std::less<>> metadata_;
    std::map<std::string, TensorView, std::less<>> tensors_;
};

/// Writes GGUF version 3, alignment 32. Collects metadata and tensors, then writes the file
/// atomically.
class GgufWriter {
  public:
    void set_u32(std::string key, uint32_t value);
    void set_f32(std::string key, float value);
    void set_bool(std::string key, bool value);
    void set_string(std::string key, std::string value);
    void set_strings(std::string key, std::vector<std::string> values);
    void set_f32s(std::string key, std::vector<float> values);
    void set_i32s(std::string key, std::vector<int32_t> values);

    /// Adds a tensor; the view's bytes must stay alive until write(). Names are unique (asserted).
    void add_tensor(std::string name, TensorView tensor);
    /// Adds a tensor whose bytes the writer owns.
    void add_tensor(std::string name, DType dtype, std::vector<int64_t> shape,
                    std::vector<std::byte> bytes);

    /// Throws Error when the file cannot be written.
    void write(const std::filesystem::path& path) const;

  private:
    struct Entry {
        std::string name;
        TensorView view;
    };
    std::vector<std::pair<std::string, std::string>> metadata_;  ///< key, encoded type and value
    std::vector<Entry> tensors_;
    std::vector<std::vector<std::byte>> owned_;
};

}  // namespace muster
