// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "muster/checkpoint/weight_map.h"
#include "muster/core/progress.h"

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

/// The model of a GGUF file, or of a split one (`name-00001-of-00003.gguf`, keys split.no,
/// split.count, split.tensors.count, as llama.cpp's gguf-split writes them) when `path` is any of
/// its parts: the first part's metadata without split.*, and all tensors. Throws Error as GgufFile
/// does, and when a part is missing, belongs to another model or repeats a tensor.
WeightMap open_gguf(const std::filesystem::path& path);

/// Writes GGUF version 3, alignment 32. Collects metadata and tensors, then writes the file
/// atomically, both in the order in which they came; `general.architecture` should come first.
class GgufWriter {
  public:
    /// Takes the next bytes of a tensor.
    using Sink = std::function<void(std::span<const std::byte>)>;
    /// Gives a tensor's bytes to the sink, in order and in pieces of any size. May throw Error.
    using Produce = std::function<void(const Sink&)>;

    GgufWriter() = default;
    GgufWriter(const GgufWriter&) = delete;
    GgufWriter& operator=(const GgufWriter&) = delete;
    GgufWriter(GgufWriter&&) noexcept = default;
    GgufWriter& operator=(GgufWriter&&) noexcept = default;

    /// A key that is set again keeps its place and takes the new value. Throws Error naming the key
    /// for NaN and infinities, an empty key, and an alignment other than 32.
    void set_u16(std::string key, uint16_t value);
    void set_u32(std::string key, uint32_t value);
    void set_i32(std::string key, int32_t value);
    void set_f32(std::string key, float value);
    void set_bool(std::string key, bool value);
    void set_string(std::string key, std::string_view value);
    void set_strings(std::string key, const std::vector<std::string>& values);
    void set_f32s(std::string key, const std::vector<float>& values);
    void set_i32s(std::string key, const std::vector<int32_t>& values);
    /// Key and value of another checkpoint, in the type that they were stored in; otherwise
    /// integers in 32 bits when they fit, real numbers as f32. Throws Error when the key is
    /// missing.
    void copy(const WeightMap& from, std::string_view key);

    /// Adds a tensor; the view's bytes must stay alive until write(). Names are unique (asserted).
    void add_tensor(std::string name, TensorView tensor);
    /// Adds a tensor whose bytes the writer owns.
    void add_tensor(std::string name, DType dtype, std::vector<int64_t> shape,
                    std::vector<std::byte> bytes);
    /// Adds a tensor whose bytes are made while they are written, so that memory need not hold
    /// them; write() throws Error when they are not as many as the shape says.
    void add_tensor(std::string name, DType dtype, std::vector<int64_t> shape, Produce produce);

    /// Throws Error when the file cannot be written, or a tensor cannot be stored: name empty or
    /// longer than llama.cpp takes (63 bytes), not 1 to 4 dimensions of at least 1, rows that are
    /// no whole blocks, bytes that do not fit the shape. `progress`, which may be empty, counts
    /// bytes of tensors; returning false stops with an Error and leaves no file.
    void write(const std::filesystem::path& path, const Progress& progress = {}) const;

    /// Writes `stem-00001-of-0000N.gguf` … beside `path` (`stem.gguf`): parts of at most
    /// `most_bytes` of tensors, at least one tensor each; all metadata stands in the first. One
    /// part: `path` itself, as write() does. Returns the parts' paths. Throws as write() does.
    std::vector<std::filesystem::path> write_split(const std::filesystem::path& path,
                                                   uint64_t most_bytes,
                                                   const Progress& progress = {}) const;

  private:
    struct Entry {
        std::string name;
        TensorView view;
        std::optional<size_t> given;  ///< size of the bytes handed over, to be checked
        Produce produce;              ///< or empty: the view has the bytes
    };
    using Metadata = std::vector<std::pair<std::string, std::string>>;
    class Output;

    void set(std::string key, std::string encoded);
    static std::string header(const Metadata& metadata, std::span<const Entry> tensors,
                              std::string_view where);
    static void write_part(const std::filesystem::path& path, const Metadata& metadata,
                           std::span<const Entry> tensors, Output& output);

    Metadata metadata_;  ///< key, encoded type and value
    std::vector<Entry> tensors_;
    std::set<std::string> names_;  ///< of the tensors
    std::vector<std::vector<std::byte>> owned_;
};

/// `stem-00002-of-00007.gguf` of `stem.gguf`, part 1 of 7 (counted from 0).
std::filesystem::path split_path(const std::filesystem::path& path, int part, int parts);
/// All parts of the model that `path` is named as a part of; `path` alone where it is not.
std::vector<std::filesystem::path> split_parts(const std::filesystem::path& path);

}  // namespace muster
