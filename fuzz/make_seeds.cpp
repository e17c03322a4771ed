// SPDX-License-Identifier: Apache-2.0
// make_seeds DIRECTORY: writes the first inputs of each target to DIRECTORY/<target>/.
#include <cstdio>
#include <filesystem>
#include <string>

#include "muster/checkpoint/gguf.h"
#include "muster/checkpoint/safetensors.h"
#include "muster/checkpoint/test_bytes.h"
#include "muster/core/atomic_file.h"

namespace {

namespace fs = std::filesystem;
using muster::DType;
using muster::testing_bytes::Bytes;

fs::path folder(const fs::path& root, const char* target) {
    fs::create_directories(root / target);
    return root / target;
}

void seed_gguf(const fs::path& directory) {
    using enum muster::gguf::ValueType;
    muster::write_file(directory / "full", muster::testing_bytes::full_gguf());
    muster::write_file(directory / "empty_v2", Bytes().gguf(0, 0, 2).str());
    Bytes aligned = Bytes().gguf(1, 1).key("general.alignment", u32).put(uint32_t{64});
    aligned.tensor("t", {4}, 26, 64).pad(64).zeros(64 + 16);
    muster::write_file(directory / "aligned", aligned.str());

    muster::GgufWriter writer;
    writer.set_string("general.architecture", "olmoe");
    writer.set_u32("olmoe.block_count", 1);
    writer.set_f32("olmoe.rope.freq_base", 10000.0f);
    writer.set_strings("tokenizer.ggml.tokens", {"<unk>", "<s>", "\xe2\x96\x81"});
    writer.set_f32s("tokenizer.ggml.scores", {0.0f, 0.0f, -1.0f});
    writer.set_i32s("tokenizer.ggml.token_type", {2, 3, 1});
    writer.add_tensor("token_embd.weight", DType::bf16, {3, 8}, std::vector<std::byte>(48));
    writer.add_tensor("blk.0.ffn_up_exps.weight", DType::q8_0, {2, 1, 32},
                      std::vector<std::byte>(68));
    writer.write(directory / "written");
}

void seed_safetensors(const fs::path& directory) {
    muster::write_file(directory / "full", muster::testing_bytes::full_safetensors());
    muster::write_file(directory / "empty", muster::testing_bytes::safetensors_bytes("{}", 0));
    const std::vector<std::byte> bytes(64);
    muster::write_safetensors(directory / "written",
                              {{"model.norm.weight", {DType::f32, {8}, bytes.data()}},
                               {"lm_head.weight", {DType::bf16, {2, 8}, bytes.data()}}},
                              {{"format", "pt"}});
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: make_seeds DIRECTORY\n");
        return 2;
    }
    try {
        seed_gguf(folder(argv[1], "fuzz_gguf"));
        seed_safetensors(folder(argv[1], "fuzz_safetensors"));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "make_seeds: %s\n", error.what());
        return 1;
    }
    return 0;
}
