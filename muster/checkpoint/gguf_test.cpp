// SPDX-License-Identifier: Apache-2.0
#include "muster/checkpoint/gguf.h"

#include <gmock/gmock.h>

#include <cstring>
#include <filesystem>
#include <limits>

#include "muster/core/atomic_file.h"
#include "muster/core/test_directory.h"

namespace muster {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

class GgufTest : public testing::Test {
  protected:
    std::filesystem::path path() const { return directory_ / "x.gguf"; }

  private:
    TemporaryDirectory directory_;
};

std::vector<std::byte> counted(size_t size) {
    std::vector<std::byte> bytes(size);
    for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + 1);
    return bytes;
}

TEST_F(GgufTest, RoundTripOfMetadata) {
    GgufWriter writer;
    writer.set_string("general.architecture", "olmoe");
    writer.set_u32("olmoe.block_count", 16);
    writer.set_f32("olmoe.rope.freq_base", 0.1f);
    writer.set_bool("flag", true);
    writer.set_strings("tokens", {"a", "", "\xe2\x96\x81text"});
    writer.set_f32s("scores", {-1.5f, 2.0f});
    writer.set_i32s("types", {1, -3});
    writer.set_strings("none", {});
    writer.set_u32("olmoe.block_count", 8);  // the new value, at the old place
    writer.write(path());

    const GgufFile file(path());
    EXPECT_EQ(file.name(), path().string());
    EXPECT_EQ(file.metadata().size(), 8u);
    EXPECT_EQ(file.string("general.architecture"), "olmoe");
    EXPECT_EQ(file.integer("olmoe.block_count"), 8);
    EXPECT_EQ(file.real("olmoe.rope.freq_base"), static_cast<double>(0.1f));
    EXPECT_EQ(file.real("olmoe.block_count"), 8.0);
    EXPECT_TRUE(file.boolean("flag"));
    EXPECT_THAT(file.strings("tokens"), ElementsAre("a", "", "\xe2\x96\x81text"));
    EXPECT_THAT(file.reals("scores"), ElementsAre(-1.5, 2.0));
    EXPECT_THAT(file.integers("types"), ElementsAre(1, -3));
    EXPECT_THAT(file.reals("types"), ElementsAre(1.0, -3.0));
    EXPECT_TRUE(file.strings("none").empty());
    EXPECT_TRUE(file.has("flag"));
    EXPECT_FALSE(file.has("fla"));
    EXPECT_TRUE(file.tensors().empty());
}

TEST_F(GgufTest, RoundTripOfEveryTensorFormat) {
    struct Case {
        DType dtype;
        std::vector<int64_t> shape;
    };
    const std::vector<Case> cases{{DType::f32, {3}},
                                  {DType::f16, {5, 3}},
                                  {DType::bf16, {2, 3, 1}},
                                  {DType::q8_0, {2, 1, 3, 64}},
                                  {DType::i32, {1, 7}}};
    GgufWriter writer;
    writer.set_string("general.architecture", "test");
    std::vector<std::vector<std::byte>> contents;
    for (const Case& c : cases) {
        TensorView view{c.dtype, c.shape, nullptr};
        contents.push_back(counted(static_cast<size_t>(view.bytes())));
        view.data = contents.back().data();
        const std::string name(dtype_info(c.dtype).name);
        writer.add_tensor(name, view);
        writer.add_tensor(name + ".owned", c.dtype, c.shape, contents.back());
    }
    writer.write(path());

    const GgufFile file(path());
    ASSERT_EQ(file.tensors().size(), 2 * cases.size());
    for (size_t i = 0; i < cases.size(); ++i) {
        for (const char* suffix : {"", ".owned"}) {
            const std::string name = std::string(dtype_info(cases[i].dtype).name) + suffix;
            const TensorView& view = file.tensor(name, cases[i].shape);
            EXPECT_EQ(view.dtype, cases[i].dtype);
            EXPECT_EQ(view.shape, cases[i].shape);
            EXPECT_EQ(std::memcmp(view.data, contents[i].data(), contents[i].size()), 0) << name;
            EXPECT_EQ(reinterpret_cast<uintptr_t>(view.data) % 32, 0u);
        }
    }
}

TEST_F(GgufTest, OrderAndAlignmentAreAsPromised) {
    GgufWriter writer;
    writer.set_string("general.architecture", "test");
    writer.set_u32("a", 1);
    writer.add_tensor("z", DType::f32, {1}, counted(4));
    writer.add_tensor("a", DType::f32, {1}, counted(4));
    writer.write(path());
    const std::string bytes = read_file(path());
    EXPECT_EQ(bytes.substr(0, 8), std::string("GGUF\3\0\0\0", 8));
    EXPECT_EQ(bytes.substr(24 + 8, 20), "general.architecture");
    EXPECT_EQ(bytes.size() % 32, 0u);  // llama.cpp wants the last tensor padded too
    const GgufFile file(path());
    EXPECT_EQ(file.tensor("a", {1}).data - file.tensor("z", {1}).data, 32);
}

TEST_F(GgufTest, AccessNamesWhatIsWrong) {
    GgufWriter writer;
    writer.set_u32("u", 4000000000u);
    writer.set_string("s", "text");
    writer.set_i32s("i", {1});
    writer.set_f32("f", 1.5f);
    writer.add_tensor("t", DType::f32, {2, 1}, counted(8));
    writer.write(path());
    const GgufFile file(path());
    const auto says = [](const char* part) { return ThrowsMessage<Error>(HasSubstr(part)); };
    EXPECT_THAT([&] { file.integer("gone"); },
                says("has no metadata key 'gone', expected an integer"));
    EXPECT_THAT([&] { file.integer("u"); },
                says("metadata key 'u' is 4000000000, expected 0 to 2147483647"));
    EXPECT_THAT([&] { file.integer("s"); }, says("'s' has another type, expected an integer"));
    EXPECT_THAT([&] { file.integer("f"); }, says("expected an integer"));
    EXPECT_THAT([&] { file.real("s"); }, says("expected a number"));
    EXPECT_THAT([&] { file.boolean("u"); }, says("expected a bool"));
    EXPECT_THAT([&] { file.string("u"); }, says("expected a string"));
    EXPECT_THAT([&] { file.strings("i"); }, says("expected an array of strings"));
    EXPECT_THAT([&] { file.reals("u"); }, says("expected an array of numbers"));
    EXPECT_THAT([&] { file.integers("s"); }, says("expected an array of integers"));
    EXPECT_THAT([&] { file.tensor("gone", {1}); },
                says("has no tensor 'gone', expected one of shape [1]"));
    EXPECT_THAT(
        [&] {
            file.tensor("t", {1, 2});
        },
        says("tensor 't' has shape [2, 1], expected [1, 2]"));
    EXPECT_NO_THROW(file.tensor("t", {1, 2, 1}));  // a leading 1 does not count
}

TEST_F(GgufTest, WriterRefusesWhatCannotBeStored) {
    const auto says = [](const char* part) { return ThrowsMessage<Error>(HasSubstr(part)); };
    GgufWriter writer;
    EXPECT_THAT([&] { writer.set_f32("f", std::numeric_limits<float>::quiet_NaN()); },
                says("'f' is nan, expected a finite number"));
    EXPECT_THAT(
        [&] {
            writer.set_f32s("f", {1, std::numeric_limits<float>::infinity()});
        },
        says("'f' is inf"));
    EXPECT_THAT([&] { writer.set_u32("", 1); }, says("key has 0 bytes"));
    EXPECT_THAT([&] { writer.set_u32("general.alignment", 64); }, says("must be 32"));
    EXPECT_NO_THROW(writer.set_u32("general.alignment", 32));

    const auto store = [&](const std::string& name, DType dtype, std::vector<int64_t> shape,
                           size_t bytes) {
        GgufWriter w;
        w.add_tensor(name, dtype, std::move(shape), counted(bytes));
        w.write(path());
    };
    EXPECT_THAT([&] { store("", DType::f32, {1}, 4); }, says("its name has 0 bytes"));
    EXPECT_THAT([&] { store(std::string(64, 'n'), DType::f32, {1}, 4); },
                says("its name has 64 bytes, expected 1 to 63"));
    EXPECT_THAT([&] { store("t", DType::f32, {}, 4); }, says("its shape is []"));
    EXPECT_THAT([&] { store("t", DType::f32, {1, 1, 1, 1, 1}, 4); }, says("1 to 4 dimensions"));
    EXPECT_THAT([&] { store("t", DType::f32, {2, 0}, 4); }, says("its shape is [2, 0]"));
    EXPECT_THAT([&] { store("t", DType::q8_0, {32, 33}, 4); }, says("whole blocks of 32 values"));
    EXPECT_THAT(
        [&] {
            store("t", DType::f32, {int64_t{1} << 40, int64_t{1} << 40}, 4);
        },
        says("less than 2^63 bytes"));
    EXPECT_THAT([&] { store("t", DType::f32, {2}, 4); }, says("it has 4 bytes, expected 8"));
    EXPECT_FALSE(std::filesystem::exists(path()));
    EXPECT_THAT([&] { GgufWriter().write("/nonexistent/x.gguf"); }, says("cannot create"));
}

TEST_F(GgufTest, MovedFileKeepsItsViews) {
    GgufWriter writer;
    writer.add_tensor("t", DType::f32, {2}, counted(8));
    GgufWriter moved = std::move(writer);
    moved.write(path());
    GgufFile first(path());
    const GgufFile second(std::move(first));
    EXPECT_EQ(second.tensor("t", {2}).data[0], std::byte{1});
}

}  // namespace
}  // namespace muster
