// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "muster/checkpoint/weight_map.h"

namespace muster {

/// A GGUF file (version 2 or 3, little-endian), memory-mapped and checked: magic, version, counts,
/// string and array lengths, types, tensor dimensions (overflow), offsets, alignment, ends.
/// Untrusted input: any damage throws Error with one sentence; nothing is read beyond the file.
/// May be moved into a plain WeightMap, which then keeps the mapping.
/// Specification: github.com/ggml-org/ggml docs/gguf.md. Safe to read from several threads.
class GgufFile : public WeightMap {
  public:
    explicit GgufFile(const std::filesystem::path& path);
    /// Parses bytes the caller keeps alive (tests, fuzzing), aligned to 8; `name` stands in
    /// messages.
    GgufFile(std::span<const std::byte> bytes, std::string name);

  private:
    void parse(std::span<const std::byte> bytes);
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
