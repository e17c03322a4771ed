// SPDX-License-Identifier: Apache-2.0
// Any bytes as the files of a Hugging Face directory - config.json, NUL,
// model.safetensors.index.json (empty: there is none), NUL, the one safetensors file - open as a
// model whose every tensor can be read, or give an Error.
#include "fuzz_folder.h"
#include "fuzz_parts.h"
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
    const auto [config, rest] = muster::fuzzing::halves(data, size);
    const auto [index, tensors] =
        muster::fuzzing::halves(reinterpret_cast<const uint8_t*>(rest.data()), rest.size());
    folder.write("config.json", config);
    folder.write("model.safetensors.index.json", index);
    folder.write(index.empty() ? "model.safetensors" : "a.safetensors", tensors);
    folder.remove(index.empty() ? "a.safetensors" : "model.safetensors");
    if (index.empty()) folder.remove("model.safetensors.index.json");
    for (const muster::HfUse use : {muster::HfUse::run, muster::HfUse::convert}) {
        try {
            read_all(muster::open_hf(folder.path(), use));
        } catch (const muster::Error&) {
        }
    }
    return 0;
}
