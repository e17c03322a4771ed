// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "muster/checkpoint/gguf.h"
#include "muster/checkpoint/test_bytes.h"

namespace muster {
namespace {

using enum gguf::ValueType;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;
using testing::ThrowsMessage;
using testing_bytes::Bytes;

void expect_refused(const Bytes& bytes, const std::string& part) {
    EXPECT_THAT([&] { testing_bytes::open_all<GgufFile>(bytes.str()); },
                ThrowsMessage<Error>(AllOf(StartsWith("[test] "), HasSubstr(part))));
}

/// A file of one tensor and `data` bytes of tensor data.
Bytes one_tensor(const std::vector<uint64_t>& ne, uint32_t type, uint64_t offset, size_t data) {
    return Bytes().gguf(1, 0).tensor("t", ne, type, offset).pad().zeros(data);
}

TEST(GgufCorruption, FullFileIsReadWhole) {
    const std::string bytes = testing_bytes::full_gguf();
    const GgufFile file(std::as_bytes(std::span(bytes)), "test");
    EXPECT_EQ(file.integer("u8"), 8);
    EXPECT_EQ(file.integer("i8", -10), -8);
    EXPECT_EQ(file.integer("u16"), 16);
    EXPECT_EQ(file.integer("i16", -20), -16);
    EXPECT_EQ(file.integer("u32"), 32);
    EXPECT_EQ(file.integer("i32", -40), -32);
    EXPECT_EQ(file.integer("u64"), 64);
    EXPECT_EQ(file.integer("i64", -70), -64);
    EXPECT_EQ(file.real("f32"), 0.5);
    EXPECT_EQ(file.real("f64"), 0.25);
    EXPECT_TRUE(file.boolean("bool"));
    EXPECT_THAT(file.strings("strings"), testing::ElementsAre("one", ""));
    EXPECT_THAT(file.integers("u8s"), testing::ElementsAre(1, 2, 3));
    EXPECT_THAT(file.reals("f64s"), testing::ElementsAre(1.5));
    EXPECT_EQ(std::get<std::vector<bool>>(std::get<MetadataArray>(file.metadata().at("bools"))),
              (std::vector<bool>{false, true}));
    EXPECT_EQ(file.tensor("q8_0", {2, 1, 3, 32}).dtype, DType::q8_0);
    EXPECT_EQ(file.tensor("bf16", {2, 3, 1}).dtype, DType::bf16);
}

TEST(GgufCorruption, Header) {
    expect_refused(Bytes().raw("GGU"), "ends at byte 3 inside the magic number");
    expect_refused(Bytes().raw("ggjt").zeros(40), "begins with 'ggjt', expected 'GGUF'");
    expect_refused(Bytes().raw("\x7f\x45LF").zeros(40), "begins with '\\x7fELF'");
    expect_refused(Bytes().gguf(0, 0, 1), "is GGUF version 1, expected 2 or 3");
    expect_refused(Bytes().gguf(0, 0, 0), "is GGUF version 0, expected 2 or 3");
    expect_refused(Bytes().gguf(0, 0, 4), "is GGUF version 4");
    expect_refused(Bytes().gguf(0, 0, 0x03000000), "is a big-endian GGUF file");
    expect_refused(Bytes().gguf(1, 0),
                   "the number of tensors is 1, but the rest of the file holds "
                   "at most 0");
    expect_refused(Bytes().gguf(~uint64_t{0}, 0).zeros(100), "the number of tensors is 18446744");
    expect_refused(Bytes().gguf(0, 1 << 20).zeros(100), "the number of metadata keys is 1048576");
    testing_bytes::open_all<GgufFile>(Bytes().gguf(0, 0).str());
    testing_bytes::open_all<GgufFile>(Bytes().gguf(0, 0, 2).str());
}

TEST(GgufCorruption, Metadata) {
    const auto with = [](uint64_t keys = 1) { return Bytes().gguf(0, keys); };
    expect_refused(with().text("").zeros(40), "the key of metadata number 0 has 0 bytes");
    expect_refused(with().text(std::string(65536, 'k')).zeros(40), "has 65536 bytes, expected 1");
    expect_refused(with().put(uint64_t{1} << 40).zeros(40),
                   "the key of metadata number 0 claims 1099511627776 bytes, but the file has only "
                   "40 left");
    expect_refused(with().text("k").put(uint32_t{13}).zeros(40),
                   "the value of 'k' has the unknown type 13, expected 0 to 12");
    expect_refused(with().key("k", u64).put(uint32_t{1}), "inside the value of 'k', which needs 8");
    expect_refused(with().key("k", string).put(~uint64_t{0}).zeros(9),
                   "the value of 'k' claims 18446744073709551615 bytes");
    expect_refused(with().key("k", boolean).put(uint8_t{2}), "the value of 'k' is the byte 2");
    expect_refused(with().array("k", u32, 3).zeros(11),
                   "the length of the value of 'k' is 3, but the rest of the file holds at most 2");
    expect_refused(with().array("k", string, uint64_t{1} << 60).zeros(80), "holds at most 10");
    expect_refused(with().array("k", string, 2).text("a").zeros(7), "inside the value of 'k'");
    expect_refused(with().array("k", boolean, 1).put(uint8_t{255}), "is the byte 255");
    expect_refused(with().array("k", array, 1).zeros(12), "the value of 'k' is an array of arrays");
    expect_refused(with().array("k", gguf::ValueType{99}, 1).zeros(8), "the unknown type 99");
    expect_refused(with(2).key("k", u8).put(uint8_t{1}).key("k", u8).put(uint8_t{1}),
                   "has the metadata key 'k' twice");
    expect_refused(with(2).key("k\n", u8).put(uint8_t{1}).key("k\n", u8).put(uint8_t{1}),
                   "has the metadata key 'k\\x0a' twice");
}

TEST(GgufCorruption, MetadataIsBounded) {
    const std::string part =
        "has too much metadata at the value of 'b', expected at most 16777216 "
        "values and 268435456 bytes";
    constexpr size_t kHalf = size_t{9} << 20;  // values
    Bytes numbers = Bytes().gguf(0, 2).array("a", u8, kHalf).zeros(kHalf);
    testing_bytes::open_all<GgufFile>(Bytes().gguf(0, 1).array("a", u8, kHalf).zeros(kHalf).str());
    expect_refused(numbers.array("b", u8, kHalf).zeros(kHalf), part);
    constexpr size_t kStrings = size_t{9} << 20;  // few enough, but a string is larger in memory
    expect_refused(Bytes().gguf(0, 1).array("b", string, kStrings).zeros(8 * kStrings), part);
    const std::string text(size_t{130} << 20, 'x');
    expect_refused(Bytes().gguf(0, 2).key("a", string).text(text).key("b", string).text(text),
                   part);
}

TEST(GgufCorruption, Alignment) {
    const auto with = [](auto value, gguf::ValueType type) {
        return Bytes().gguf(1, 1).key("general.alignment", type).put(value);
    };
    const auto key = [](const char* rest) { return std::string("metadata key 'general.") + rest; };
    const auto body = [](Bytes b) { return b.tensor("t", {2}, 0, 0).pad().zeros(64); };
    expect_refused(body(with(uint32_t{0}, u32)), key("alignment' is 0, expected 8 to 1048576"));
    expect_refused(body(with(uint32_t{4}, u32)), key("alignment' is 4, expected 8"));
    expect_refused(body(with(~uint32_t{0}, u32)), key("alignment' is 4294967295"));
    expect_refused(body(with(uint32_t{48}, u32)), "general.alignment is 48, expected a power");
    expect_refused(body(with(32.0f, f32)), key("alignment' has another type"));

    // With an alignment of 64 the second tensor lies at 64, counted from a multiple of 64.
    Bytes b = Bytes().gguf(2, 1).key("general.alignment", u32).put(uint32_t{64});
    b.tensor("a", {1}, 0, 0).tensor("b", {1}, 26, 64).pad(64).zeros(64).put(int32_t{42});
    const GgufFile file(std::as_bytes(std::span(b.str())), "test");
    EXPECT_EQ(static_cast<int>(file.tensor("b", {1}).data[0]), 42);
}

TEST(GgufCorruption, Shapes) {
    expect_refused(one_tensor({}, 0, 0, 64), "tensor 't' has 0 dimensions, expected 1 to 4");
    expect_refused(one_tensor({1, 1, 1, 1, 1}, 0, 0, 64), "tensor 't' has 5 dimensions");
    expect_refused(one_tensor({2, 0}, 0, 0, 64), "tensor 't' has a dimension of 0, expected 1 to");
    expect_refused(one_tensor({~uint64_t{0}}, 0, 0, 64), "a dimension of 18446744073709551615");
    expect_refused(one_tensor({uint64_t{1} << 32, uint64_t{1} << 31}, 0, 0, 64),
                   "tensor 't' of shape [2147483648, 4294967296] has more than 2^63 - 1 bytes");
    expect_refused(one_tensor({uint64_t{1} << 62}, 0, 0, 64), "has more than 2^63 - 1 bytes");
    expect_refused(one_tensor({33}, 8, 0, 64),
                   "tensor 't' has rows of 33 values, expected a multiple of 32 (q8_0)");
    expect_refused(one_tensor({16, 2}, 8, 0, 64), "has rows of 16 values");
}

TEST(GgufCorruption, Formats) {
    expect_refused(one_tensor({256}, 16, 0, 128),
                   "tensor 't' has the type IQ2_XXS, expected one of F32, F16, Q4_0, Q4_1");
    expect_refused(one_tensor({256}, 40, 0, 256), "tensor 't' has the type NVFP4");
    expect_refused(one_tensor({256}, 28, 0, 64), "tensor 't' has the type F64");
    expect_refused(one_tensor({256}, 41, 0, 64), "tensor 't' has the type 41 (unknown)");
    expect_refused(one_tensor({256}, ~uint32_t{0}, 0, 64), "the type 4294967295 (unknown)");
}

TEST(GgufCorruption, Places) {
    expect_refused(one_tensor({8}, 0, 8, 64), "tensor 't' lies at offset 8, expected a multiple");
    expect_refused(one_tensor({8}, 0, 0, 31),
                   "tensor 't' has 32 bytes from offset 0, but the file has only 31 bytes");
    expect_refused(one_tensor({8}, 0, 64, 64), "tensor 't' has 32 bytes from offset 64");
    expect_refused(one_tensor({8}, 0, ~uint64_t{31}, 64), "from offset 18446744073709551584");
    expect_refused(Bytes().gguf(1, 0).tensor("t", {1}, 0, 0), "but the file has only 0 bytes");
    const auto two = [](const char* second, uint64_t offset) {
        Bytes b = Bytes().gguf(2, 0).tensor("a", {16}, 0, 32).tensor(second, {16}, 0, offset);
        return b.pad().zeros(256);
    };
    expect_refused(two("b", 0), "tensors 'b' and 'a' overlap");
    expect_refused(two("b", 32), "overlap");
    expect_refused(two("b", 64), "tensors 'a' and 'b' overlap");
    expect_refused(two("a", 96), "has the tensor 'a' twice");
    testing_bytes::open_all<GgufFile>(two("b", 96).str());
    testing_bytes::open_all<GgufFile>(two("b", 128).str());  // a hole harms nobody

    expect_refused(Bytes().gguf(1, 0).tensor("", {1}, 0, 0).zeros(80),
                   "the name of tensor number 0 has 0 bytes, expected 1 to 64");
    expect_refused(Bytes().gguf(1, 0).tensor(std::string(65, 'n'), {1}, 0, 0).zeros(80),
                   "the name of tensor number 0 has 65 bytes");
}

TEST(GgufCorruption, NonFiniteMetadataIsRefusedWhenAsked) {
    Bytes b = Bytes().gguf(0, 2).key("x", f32).put(uint32_t{0x7fc00000});
    b.array("y", f64, 1).put(uint64_t{0x7ff0000000000000});
    const GgufFile file(std::as_bytes(std::span(b.str())), "test");
    EXPECT_THAT([&] { file.real("x"); }, ThrowsMessage<Error>(HasSubstr("'x' is nan")));
    EXPECT_THAT([&] { file.reals("y"); }, ThrowsMessage<Error>(HasSubstr("'y' is inf")));
}

TEST(GgufCorruption, IntegersBeyondInt64) {
    Bytes b = Bytes().gguf(0, 2).key("x", u64).put(~uint64_t{0});
    b.array("y", u64, 1).put(~uint64_t{0});
    const GgufFile file(std::as_bytes(std::span(b.str())), "test");
    EXPECT_THAT([&] { file.integer("x", 0, INT64_MAX); }, ThrowsMessage<Error>(HasSubstr("'x'")));
    EXPECT_THAT([&] { file.integers("y"); }, ThrowsMessage<Error>(HasSubstr("at most 2^63 - 1")));
}

TEST(GgufCorruption, TruncatedAnywhere) {
    const std::string bytes = testing_bytes::full_gguf();
    EXPECT_NO_THROW(testing_bytes::open_all<GgufFile>(bytes));
    for (size_t size = 0; size < bytes.size(); ++size) {
        EXPECT_THROW(testing_bytes::open_all<GgufFile>(bytes.substr(0, size)), Error) << size;
    }
}

TEST(GgufCorruption, RandomDamageNeverCrashes) {
    const std::string bytes = testing_bytes::full_gguf();
    Random random(1);
    int refused = 0;
    for (int i = 0; i < 5000; ++i) {
        try {
            testing_bytes::open_all<GgufFile>(testing_bytes::damaged(bytes, random));
        } catch (const Error&) {
            ++refused;
        }
    }
    EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace muster
