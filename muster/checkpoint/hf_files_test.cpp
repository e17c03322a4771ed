// SPDX-License-Identifier: Apache-2.0
#include "muster/checkpoint/hf_files.h"

#include <gmock/gmock.h>

#include <array>

#include "muster/checkpoint/test_bytes.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/test_directory.h"

namespace muster {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

class HfFilesTest : public ::testing::Test {
  protected:
    void shard(const char* file, std::vector<const char*> names) {
        std::vector<NamedTensor> tensors;
        for (const char* name : names)
            tensors.push_back(
                {name, {DType::f32, {2}, reinterpret_cast<const std::byte*>(values_.data())}});
        write_safetensors(directory_ / file, tensors);
    }
    void index(const std::string& map) {
        write_file(directory_ / "model.safetensors.index.json",
                   R"({"metadata": {"total_size": 16}, "weight_map": )" + map + "}");
    }
    void expect_refused(const std::string& part) {
        EXPECT_THAT([&] { HfFiles files(directory_.path()); },
                    ThrowsMessage<Error>(HasSubstr(part)));
    }

    std::array<float, 2> values_{1, 2};
    TemporaryDirectory directory_;
};

TEST_F(HfFilesTest, OneFileOrShards) {
    expect_refused("has neither model.safetensors nor model.safetensors.index.json");
    shard("x-1.safetensors", {"a"});
    shard("x-2.safetensors", {"b"});
    index(R"({"a": "x-1.safetensors", "b": "x-2.safetensors"})");
    EXPECT_THAT(HfFiles(directory_.path()).names(), ElementsAre("a", "b"));
    shard("model.safetensors", {"c"});
    const HfFiles single(directory_.path());
    EXPECT_THAT(single.names(), ElementsAre("c"));
    EXPECT_EQ(reinterpret_cast<const float*>(single.find("c")->data)[1], 2.0f);
    EXPECT_EQ(single.find("a"), nullptr);
}

TEST_F(HfFilesTest, BytesStandApart) {
    write_file(directory_ / "model.safetensors",
               testing_bytes::safetensors_bytes(
                   R"({"w_blocks":{"dtype":"U8","shape":[2,3],"data_offsets":[0,6]}})", 6));
    const HfFiles files(directory_.path());
    ASSERT_NE(files.find_bytes("w_blocks"), nullptr);
    EXPECT_EQ(files.find_bytes("w_blocks")->bytes.size(), 6u);
    EXPECT_EQ(files.find("w_blocks"), nullptr);
}

TEST_F(HfFilesTest, IndexThatDoesNotFit) {
    shard("x-1.safetensors", {"a"});
    index(R"({"a": "x-1.safetensors", "b": "x-1.safetensors"})");
    expect_refused("lists tensor 'b' in 'x-1.safetensors', which does not hold it");
    index(R"({"a": "x-1.safetensors", "b": "x-9.safetensors"})");
    expect_refused("lists the shard 'x-9.safetensors', which is missing");
    shard("x-2.safetensors", {"a", "b"});
    index(R"({"a": "x-1.safetensors", "b": "x-2.safetensors"})");
    expect_refused("holds tensor 'a', which another shard holds too");
    shard("x-2.safetensors", {"b", "c"});
    expect_refused("does not list tensor 'c' of 'x-2.safetensors'");
}

TEST_F(HfFilesTest, IndexThatIsDamagedOrLeavesTheDirectory) {
    for (const char* name : {"../x.safetensors", "/etc/x.safetensors", "a\\\\x.safetensors",
                             ".safetensors", "..", "x.bin", ""}) {
        index(R"({"a": ")" + std::string(name) + "\"}");
        expect_refused("names the shard");
    }
    index(R"({"a": 1})");
    expect_refused("gives no file name for tensor 'a'");
    index("[]");
    expect_refused("has no object 'weight_map'");
    index("{}");
    expect_refused("lists no tensors");
    index(R"({"a": "x.safetensors", "a": "y.safetensors"})");
    expect_refused("has the key 'a' twice");
}

}  // namespace
}  // namespace muster
