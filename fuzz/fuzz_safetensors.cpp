// SPDX-License-Identifier: Apache-2.0
// Any bytes opened as a safetensors file give a file or an Error; views stay inside the bytes.
#include "muster/checkpoint/safetensors.h"
#include "muster/checkpoint/test_bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto find_all = [](const muster::SafetensorsFile& file) {
        for (const auto& [name, view] : file.tensors()) {
            static_cast<void>(file.tensor(name, view.shape));
        }
    };
    try {
        muster::testing_bytes::open_all<muster::SafetensorsFile>(
            {reinterpret_cast<const char*>(data), size}, find_all);
    } catch (const muster::Error&) {
    }
    return 0;
}
