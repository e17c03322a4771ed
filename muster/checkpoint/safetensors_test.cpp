// SPDX-License-Identifier: Apache-2.0
#include "muster/checkpoint/safetensors.h"

#include <gmock/gmock.h>

#include <cstring>
#include <filesystem>

#include "muster/core/atomic_file.h"
#include "muster/core/test_directory.h"

namespace muster {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::ThrowsMessage;

class SafetensorsTest : public testing::Test {
  protected:
    std::filesystem::path path() const { return directory_ / "x.safetensors"; }

  private:
    TemporaryDirectory directory_;
};

const std::vector<std::byte>& content() {
    static const std::vector<std::byte> bytes = [] {
        std::vector<std::byte> b(256);
        for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<std::byte>(i * 5 + 3);
        return b;
    }();
    return bytes;
}

TEST_F(SafetensorsTest, RoundTripOfEveryFormat) {
    const std::byte* data = content().data();
    const std::vector<NamedTensor> tensors{{"half", {DType::f16, {3}, data + 1}},
                                           {"single", {DType::f32, {2, 3}, data + 2}},
                                           {"brain", {DType::bf16, {1, 1, 5}, data + 3}},
                                           {"whole \"x\"\n\xc3\xa9", {DType::i32, {4}, data}},
                                           {"scalar", {DType::f32, {}, data}},
                                           {"empty", {DType::f16, {2, 0}, nullptr}}};
    write_safetensors(path(), tensors, {{"format", "pt"}, {"k\"", "v"}});
    const SafetensorsFile file(path());
    EXPECT_EQ(file.name(), path().string());
    EXPECT_THAT(file.metadata(), ElementsAre(Pair("format", "pt"), Pair("k\"", "v")));
    ASSERT_EQ(file.tensors().size(), tensors.size());
    for (const auto& [name, view] : tensors) {
        const TensorView& read = file.tensor(name, view.shape);
        EXPECT_EQ(read.dtype, view.dtype);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(read.data) % 2, 0u);
        if (view.bytes() == 0) continue;
        EXPECT_EQ(std::memcmp(read.data, view.data, static_cast<size_t>(view.bytes())), 0) << name;
    }
    // Four-byte formats first, else in order; the data begins on a multiple of 64.
    EXPECT_EQ(file.tensor("whole \"x\"\n\xc3\xa9", {4}).data - file.tensor("single", {2, 3}).data,
              24);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(file.tensor("single", {2, 3}).data) % 64, 0u);
}

TEST_F(SafetensorsTest, NoTensorsAtAll) {
    write_safetensors(path(), {});
    EXPECT_TRUE(SafetensorsFile(path()).tensors().empty());
    EXPECT_TRUE(SafetensorsFile(path()).metadata().empty());
}

TEST_F(SafetensorsTest, MisalignedTensorsAreCopied) {
    std::string json = R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
    if (json.size() % 2 == 0) json += ' ';  // the data begins on an odd byte
    std::string file(8, '\0');
    file[0] = static_cast<char>(json.size());
    file += json;
    file += std::string("\x00\x00\x80\x3f", 4);
    write_file(path(), file);
    SafetensorsFile first(path());
    const SafetensorsFile read = std::move(first);
    const TensorView& view = read.tensor("t", {1});
    ASSERT_EQ(reinterpret_cast<uintptr_t>(view.data) % 4, 0u);
    EXPECT_EQ(*reinterpret_cast<const float*>(view.data), 1.0f);
}

TEST_F(SafetensorsTest, AccessNamesWhatIsWrong) {
    write_safetensors(path(), {{"t", {DType::f32, {1, 2}, content().data()}}});
    const SafetensorsFile file(path());
    const auto says = [](const char* part) { return ThrowsMessage<Error>(HasSubstr(part)); };
    EXPECT_THAT([&] { file.tensor("u", {2}); }, says("has no tensor 'u'"));
    EXPECT_THAT([&] { file.tensor("t", {2}); }, says("tensor 't' has shape [1, 2], expected [2]"));
}

TEST_F(SafetensorsTest, WriterRefusesWhatCannotBeStored) {
    const auto says = [](const char* part) { return ThrowsMessage<Error>(HasSubstr(part)); };
    const std::byte* data = content().data();
    const auto store = [&](const std::vector<NamedTensor>& tensors) {
        write_safetensors(path(), tensors);
    };
    EXPECT_THAT(
        [&] {
            store({{"t", {DType::q8_0, {32}, data}}});
        },
        says("cannot store tensor 't': its format is q8_0"));
    EXPECT_THAT([&] { store({{"t", {DType::f32, {-1}, data}}}); }, says("its shape is [-1]"));
    EXPECT_THAT([&] { store({{"__metadata__", {DType::f32, {1}, data}}}); }, says("reserved"));
    EXPECT_THAT(
        [&] {
            store({{"t", {DType::f32, {1}, data}}, {"t", {DType::f32, {1}, data}}});
        },
        says("the tensor 't' twice"));
    EXPECT_THAT(
        [&] {
            store({{"\xff", {DType::f32, {1}, data}}});
        },
        says("cannot store the text '\\xff', expected UTF-8"));
    EXPECT_FALSE(std::filesystem::exists(path()));
}

}  // namespace
}  // namespace muster
