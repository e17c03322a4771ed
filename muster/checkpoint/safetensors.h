// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "muster/core/mapped_file.h"
#include "muster/core/tensor_view.h"

namespace muster {

/// A tensor of bytes (U8): of a format that only its reader knows, like gpt-oss's packed MXFP4.
struct ByteTensor {
    std::vector<int64_t> shape;
    std::span<const std::byte> bytes;
};

/// A safetensors file (F32, F16, BF16, I32, U8; others are refused by name), memory-mapped and
/// checked: header length, JSON depth, dtype, shape (overflow), offsets (inside the file, no
/// overlap, no holes). Untrusted input: any damage throws Error. Views live as long as the object;
/// they are aligned to their element (the format does not promise it: a tensor that is not is
/// copied). Safe to read from several threads. Specification: github.com/huggingface/safetensors
/// (README, "Format").
class SafetensorsFile {
  public:
    explicit SafetensorsFile(const std::filesystem::path& path);
    /// Parses bytes the caller keeps alive; `name` stands in messages.
    SafetensorsFile(std::span<const std::byte> bytes, std::string name);

    const std::string& name() const noexcept { return name_; }
    /// The file itself, where it was opened by path.
    const MappedFile& mapped() const noexcept { return file_; }
    const std::map<std::string, TensorView, std::less<>>& tensors() const noexcept {
        return tensors_;
    }
    /// The tensors of bytes; the others stand in tensors().
    const std::map<std::string, ByteTensor, std::less<>>& byte_tensors() const noexcept {
        return byte_tensors_;
    }
    const std::map<std::string, std::string, std::less<>>& metadata() const noexcept {
        return metadata_;
    }
    /// Throws Error when it is missing or its shape differs.
    const TensorView& tensor(std::string_view name, const std::vector<int64_t>& shape) const;

  private:
    void parse(std::span<const std::byte> bytes);

    MappedFile file_;
    std::string name_;
    std::map<std::string, TensorView, std::less<>> tensors_;
    std::map<std::string, ByteTensor, std::less<>> byte_tensors_;
    std::map<std::string, std::string, std::less<>> metadata_;
    std::vector<std::vector<std::byte>> realigned_;  ///< copies of tensors that lie misaligned
};

/// A tensor to be written; its bytes must stay alive for the call.
struct NamedTensor {
    std::string name;
    TensorView view;
};

/// Writes a safetensors file atomically, tensors in this order but four-byte formats before
/// two-byte ones, so that each is aligned. Throws Error when it cannot be written, when two tensors
/// have one name, and for a format or shape that safetensors cannot hold (q8_0).
void write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

/// A tensor whose bytes are made while they are written.
struct MadeTensor {
    using Sink = std::function<void(std::span<const std::byte>)>;

    std::string name;
    std::optional<DType> dtype;  ///< none: U8
    std::vector<int64_t> shape;
    /// Gives the bytes to the sink, in order and in pieces of any size; may throw Error.
    std::function<void(const Sink&)> make;

    int64_t bytes() const noexcept;
};

/// The same with tensors that memory need not hold. Throws Error also when a tensor's bytes are not
/// as many as its shape says. `written`, which may be empty, is called after each piece with its
/// size.
void write_made_safetensors(const std::filesystem::path& path,
                            const std::vector<MadeTensor>& tensors,
                            const std::map<std::string, std::string>& metadata = {},
                            const std::function<void(int64_t)>& written = {});

/// The tensors, in order, as the contents of files with at most `most` bytes of tensors each, but
/// at least one tensor.
std::vector<std::vector<MadeTensor>> shards_of(const std::vector<MadeTensor>& tensors,
                                               uint64_t most);

}  // namespace muster
