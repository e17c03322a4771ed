// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "muster/core/mapped_file.h"
#include "muster/core/tensor_view.h"

namespace muster {

/// A one-dimensional array value of a GGUF file; GGUF's nested arrays are refused.
using GgufArray = std::variant<std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>,
                               std::vector<bool>, std::vector<std::string>>;

/// A metadata value of a GGUF file (all integer widths are kept as int64/uint64, floats as double).
using GgufValue = std::variant<uint64_t, int64_t, double, bool, std::string, GgufArray>;

/// A GGUF file (version 2 or 3, little-endian), memory-mapped and checked: magic, version, counts,
/// string and array lengths, types, tensor dimensions (overflow), offsets, alignment, ends.
/// Untrusted input: any damage throws Error with one sentence; nothing is read beyond the file.
/// Views live as long as the object. Specification: github.com/ggml-org/ggml docs/gguf.md. Safe to
/// read from several threads.
class GgufFile {
  public:
    explicit GgufFile(const std::filesystem::path& path);
    /// Parses bytes the caller keeps alive (tests, fuzzing), aligned to 8; `name` stands in
    /// messages.
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
    /// range. Real numbers may be stored as integers; NaN and infinities are refused.
    int64_t integer(std::string_view key, int64_t low = 0, int64_t high = INT32_MAX) const;
    double real(std::string_view key) const;
    bool boolean(std::string_view key) const;
    const std::string& string(std::string_view key) const;
    const std::vector<std::string>& strings(std::string_view key) const;
    std::vector<double> reals(std::string_view key) const;      ///< any numeric array
    std::vector<int64_t> integers(std::string_view key) const;  ///< any integer array

    /// The tensor `name`; throws Error when it is missing or its shape differs from `shape`
    /// (row-major). Leading dimensions of 1 do not count: GGUF writers drop them.
    const TensorView& tensor(std::string_view name, const std::vector<int64_t>& shape) const;

  private:
    void parse(std::span<const std::byte> bytes);

    MappedFile file_;
    std::string name_;
    std::map<std::string, GgufValue, std::less<>> metadata_;
    std::map<std::string, TensorView, std::less<>> tensors_;
};

/// Writes GGUF version 3, alignment 32. Collects metadata and tensors, then writes the file
/// atomically, both in the order in which they came; `general.architecture` should come first.
class GgufWriter {
  public:
    GgufWriter() = default;
    GgufWriter(const GgufWriter&) = delete;
    GgufWriter& operator=(const GgufWriter&) = delete;
    GgufWriter(GgufWriter&&) noexcept = default;
    GgufWriter& operator=(GgufWriter&&) noexcept = default;

    /// A key that is set again keeps its place and takes the new value. Throws Error naming the key
    /// for NaN and infinities, an empty key, and an alignment other than 32.
    void set_u32(std::string key, uint32_t value);
    void set_f32(std::string key, float value);
    void set_bool(std::string key, bool value);
    void set_string(std::string key, std::string_view value);
    void set_strings(std::string key, const std::vector<std::string>& values);
    void set_f32s(std::string key, const std::vector<float>& values);
    void set_i32s(std::string key, const std::vector<int32_t>& values);

    /// Adds a tensor; the view's bytes must stay alive until write(). Names are unique (asserted).
    void add_tensor(std::string name, TensorView tensor);
    /// Adds a tensor whose bytes the writer owns.
    void add_tensor(std::string name, DType dtype, std::vector<int64_t> shape,
                    std::vector<std::byte> bytes);

    /// Throws Error when the file cannot be written, or a tensor cannot be stored: name empty or
    /// longer than llama.cpp takes (63 bytes), not 1 to 4 dimensions of at least 1, rows that are
    /// no whole blocks, bytes that do not fit the shape.
    void write(const std::filesystem::path& path) const;

  private:
    struct Entry {
        std::string name;
        TensorView view;
        std::optional<size_t> given;  ///< size of the bytes handed over, to be checked
    };

    void set(std::string key, std::string encoded);
    std::string header(std::string_view where) const;

    std::vector<std::pair<std::string, std::string>> metadata_;  ///< key, encoded type and value
    std::vector<Entry> tensors_;
    std::set<std::string> names_;  ///< of the tensors
    std::vector<std::vector<std::byte>> owned_;
};

}  // namespace muster
