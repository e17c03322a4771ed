// SPDX-License-Identifier: Apache-2.0
// Any bytes opened as a GGUF file give a file or an Error; views stay inside the bytes.
#include "muster/checkpoint/gguf.h"
#include "muster/checkpoint/test_bytes.h"

namespace {

/// A typed access may refuse with an Error and nothing else.
template <typename F>
void try_access(F&& access) {
    try {
        access();
    } catch (const muster::Error&) {
    }
}

void access_everything(const muster::GgufFile& file) {
    for (const auto& entry : file.metadata()) {
        const std::string& key = entry.first;
        try_access([&] { static_cast<void>(file.integer(key, INT64_MIN, INT64_MAX)); });
        try_access([&] { static_cast<void>(file.real(key)); });
        try_access([&] { static_cast<void>(file.boolean(key)); });
        try_access([&] { static_cast<void>(file.string(key)); });
        try_access([&] { static_cast<void>(file.strings(key)); });
        try_access([&] { static_cast<void>(file.reals(key)); });
        try_access([&] { static_cast<void>(file.integers(key)); });
    }
    for (const auto& [name, view] : file.tensors()) {
        static_cast<void>(file.tensor(name, view.shape));
        try_access([&] { static_cast<void>(file.tensor(name, {1, 2, 3})); });
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    try_access([&] {
        muster::testing_bytes::open_all<muster::GgufFile>(
            {reinterpret_cast<const char*>(data), size}, access_everything);
    });
    return 0;
}
