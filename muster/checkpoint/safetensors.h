// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "muster/core/mapped_file.h"
#include "muster/core/tensor_view.h"

namespace muster {

/// A safetensors file (F32, F16, BF16, I32; others are refused by name), memory-mapped and checked:
/// header length, JSON depth, dtype, shape (overflow), offsets (inside the file, no overlap, no
/// holes). Untrusted input: any damage throws Error. Views live as long as the object.
/// Specification: github.com/huggingface/safetensors (README, "Format").
class SafetensorsFile {
  public:
    explicit SafetensorsFile(const std::filesystem::path& path);
    SafetensorsFile(std::span<const std::byte> bytes, std::string name);

    const std::string& name() const noexcept { return name_; }
    const std::map<std::string, TensorView, std::less<>>& tensors() const noexcept {
        return tensors_;
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
    std::map<std::string, std::string, std::less<>> metadata_;
};

/// Tensors to be written, in this order; views must stay alive for the call.
struct NamedTensor {
    std::string name;
    TensorView view;
};

/// Writes a safetensors file atomically. Throws Error when it cannot be written.
void write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace muster
