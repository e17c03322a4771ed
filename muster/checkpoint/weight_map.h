// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "muster/core/mapped_file.h"
#include "muster/core/reserved_memory.h"
#include "muster/core/tensor_view.h"

namespace muster {

/// A one-dimensional array of metadata; GGUF's nested arrays are refused.
using MetadataArray = std::variant<std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>,
                                   std::vector<bool>, std::vector<std::string>>;

/// A value of metadata (all integer widths are kept as int64/uint64, floats as double).
using MetadataValue = std::variant<uint64_t, int64_t, double, bool, std::string, MetadataArray>;

/// What a checkpoint says: metadata and tensors under GGUF's keys and tensor names (keys and
/// names: github.com/ggml-org/ggml docs/gguf.md), wherever they come from: one GGUF file, a split
/// one, a Hugging Face directory. The one source that model/arch/ and tokenizer/ read.
/// Tensors are views into mapped files or into memory that the map owns; they live as long as the
/// map, and moving it moves no bytes. Reading is safe from several threads.
class WeightMap {
  public:
    /// `name` (a path) stands in messages.
    explicit WeightMap(std::string name) : name_(std::move(name)) {}
    WeightMap(const WeightMap&) = delete;
    WeightMap& operator=(const WeightMap&) = delete;
    WeightMap(WeightMap&&) noexcept = default;
    WeightMap& operator=(WeightMap&&) noexcept = default;

    const std::string& name() const noexcept { return name_; }
    const std::map<std::string, MetadataValue, std::less<>>& metadata() const noexcept {
        return metadata_;
    }
    /// Tensors by name; shapes are row-major (GGUF's ne reversed).
    const std::map<std::string, TensorView, std::less<>>& tensors() const noexcept {
        return tensors_;
    }

    bool has(std::string_view key) const { return metadata_.find(key) != metadata_.end(); }
    bool has_tensor(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }
    /// Typed access; throws Error naming the key when it is missing, of another type or out of
    /// range. Real numbers may be stored as integers; NaN and infinities are refused.
    int64_t integer(std::string_view key, int64_t low = 0, int64_t high = INT32_MAX) const;
    double real(std::string_view key) const;
    bool boolean(std::string_view key) const;
    const std::string& string(std::string_view key) const;
    const std::vector<std::string>& strings(std::string_view key) const;
    std::vector<double> reals(std::string_view key) const;      ///< any numeric array
    std::vector<int64_t> integers(std::string_view key) const;  ///< any integer array

    /// The number of the type (gguf::ValueType; of an array, of its values) that a value had in its
    /// file, so that it can be written as it was; none when the value comes from elsewhere.
    std::optional<uint32_t> stored_type(std::string_view key) const;

    /// The tensor `name`; throws Error when it is missing or its shape differs from `shape`
    /// (row-major). Leading dimensions of 1 do not count: GGUF writers drop them.
    const TensorView& tensor(std::string_view name, const std::vector<int64_t>& shape) const;

    /// Rows [first, first + count) of the tensor `name`, its leading dimensions flattened: where
    /// they lie, or made in `buffer` (add_rows). Throws Error when there is no such tensor; rows
    /// are in range (asserted).
    const std::byte* rows(std::string_view name, int64_t first, int64_t count,
                          std::vector<std::byte>& buffer) const;
    /// The `size` bytes at `data`, which is in a tensor: there, or made in `buffer` where the
    /// tensor has a place but no content yet (add_made).
    const std::byte* contents(const std::byte* data, int64_t size,
                              std::vector<std::byte>& buffer) const;
    /// The tensors that have a place but no content yet, in order.
    std::vector<std::string> made() const;
    /// Writes rows [first, first + count) of such a tensor to their place. Several threads may do
    /// so for different rows.
    void make(std::string_view name, int64_t first, int64_t count) const;
    /// Whether bytes lie in a mapped file, whose memory the system can take back.
    bool in_files(const std::byte* data) const noexcept;

    // How a map is made, by one thread.

    /// Throws Error when the key is there. `stored` is what stored_type() says.
    void set(std::string key, MetadataValue value, std::optional<uint32_t> stored = std::nullopt);
    /// Removes a key, if it is there.
    void erase(std::string_view key);
    /// Adds a view of bytes that something kept (keep) or the caller holds alive. Throws Error when
    /// the name is there.
    void add(std::string name, TensorView tensor);
    /// Adds a tensor with memory of its own, aligned to 64 bytes, and returns where its bytes are
    /// to be written. Throws Error when the name is there or the shape has no bytes to be counted.
    std::byte* allocate(std::string name, DType dtype, std::vector<int64_t> shape);
    /// Makes rows [first, first + count) of a tensor in `out`; may throw Error. Called from several
    /// threads.
    using RowMaker = std::function<void(int64_t first, int64_t count, std::byte* out)>;
    /// Adds a tensor whose rows are made when rows() asks for them: its view has no data, so that
    /// the map is one to convert from, not to run. Throws as allocate() does.
    void add_rows(std::string name, DType dtype, std::vector<int64_t> shape, RowMaker maker);
    /// Adds a tensor that is made of others: its view has an address, so that a model can be bound,
    /// but neither content nor memory before make() and keep_made(). `sources`: what the maker
    /// reads. Throws as allocate() does.
    void add_made(std::string name, DType dtype, std::vector<int64_t> shape, RowMaker maker,
                  std::vector<std::span<const std::byte>> sources);
    /// Every row of the tensor was written by make(): it is like any other from now on.
    void keep_made(std::string_view name);
    /// Nothing points to the place of the tensor any more: its view has no data from now on.
    void release_made(std::string_view name);
    /// Takes the tensors of `part` and what they point into; its metadata is dropped. Throws Error
    /// when a name is there.
    void absorb_tensors(WeightMap part);
    /// Holds what views point into as long as the map lives.
    void keep(std::shared_ptr<const void> owner) { owners_.push_back(std::move(owner)); }
    /// The same for a mapped file, whose pages can then be dropped.
    void keep_mapped(std::shared_ptr<const MappedFile> file) { files_.push_back(std::move(file)); }

    /// Gives the memory of a tensor's bytes back to the system where they lie in a mapped file: see
    /// MappedFile::drop_pages. In a tensor that is made of others all that it is made of is
    /// dropped; bytes that lie elsewhere stay.
    void drop_pages(const std::byte* data, size_t size) const noexcept;

  private:
    struct Made {
        std::string name;
        ReservedMemory memory;
        std::vector<std::span<const std::byte>> sources;
    };
    /// The tensor without content that `data` lies in, or null.
    const Made* find_made(const std::byte* data) const noexcept;
    std::map<const std::byte*, Made>::iterator made_named(std::string_view name);
    void drop_mapped(const std::byte* data, size_t size) const noexcept;
    /// Bytes of a tensor; throws Error when they cannot be counted.
    int64_t storable_bytes(std::string_view name, DType dtype,
                           std::span<const int64_t> shape) const;

    std::string name_;
    std::map<std::string, MetadataValue, std::less<>> metadata_;
    std::map<std::string, uint32_t, std::less<>> stored_types_;
    std::map<std::string, TensorView, std::less<>> tensors_;
    std::map<std::string, RowMaker, std::less<>> makers_;
    std::map<const std::byte*, Made> made_;  ///< by address
    std::vector<std::shared_ptr<const void>> owners_;
    std::vector<std::shared_ptr<const MappedFile>> files_;
};

}  // namespace muster
