// SPDX-License-Identifier: Apache-2.0
// Any bytes as the files of a Hugging Face directory open as a model whose every tensor can be
// read, or give an Error.
#include "fuzz_folder.h"
#include "muster/checkpoint/hf_model.h"
#include "muster/checkpoint/safetensors.h"

namespace {

/// Reads the first and the last row of every tensor.
void read_all(const muster::WeightMap& map) {
    std::vector<std::byte> buffer;
    volatile std::byte seen{};
    for (const auto& [name, view] : map.tensors()) {
        const int64_t cols = view.shape.empty() ? 1 : view.shape.back();
        const int64_t rows = cols == 0 ? 0 : view.elements() / cols;
        for (const int64_t row : {int64_t{0}, rows - 1}) {
            if (row < 0 || row >= rows) continue;
            const std::byte* bytes = map.rows(name, row, 1, buffer);
            seen = bytes[muster::dtype_bytes(view.dtype, cols) - 1];
        }
    }
    static_cast<void>(seen);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const muster::fuzzing::Folder folder;
    folder.write_huggingface(data, size);
    for (const muster::HfUse use : {muster::HfUse::run, muster::HfUse::convert}) {
        try {
            read_all(muster::open_hf(folder.path(), use));
        } catch (const muster::Error&) {
        }
    }
    return 0;
}
