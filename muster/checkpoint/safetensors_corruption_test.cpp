// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "muster/checkpoint/safetensors.h"
#include "muster/checkpoint/test_bytes.h"

namespace muster {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;
using testing::ThrowsMessage;
using testing_bytes::Bytes;
using testing_bytes::safetensors_bytes;

void expect_refused(const std::string& bytes, const std::string& part) {
    EXPECT_THAT([&] { testing_bytes::open_all<SafetensorsFile>(bytes); },
                ThrowsMessage<Error>(AllOf(StartsWith("[test] "), HasSubstr(part))));
}

/// A file of one tensor `t` with these fields and `data` bytes.
std::string one(const std::string& fields, size_t data = 8) {
    return safetensors_bytes(R"({"t":{)" + fields + "}}", data);
}

std::string tensor(const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"("dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets;
}

TEST(SafetensorsCorruption, FullFileIsReadWhole) {
    const std::string bytes = testing_bytes::full_safetensors();
    const SafetensorsFile file(std::as_bytes(std::span(bytes)), "test");
    EXPECT_EQ(file.tensors().size(), 5u);
    EXPECT_EQ(file.metadata().at("format"), "pt");
    EXPECT_EQ(file.metadata().at("a\xc3\xa9"), "");
    EXPECT_EQ(file.tensor("bf16", {1, 1, 1}).dtype, DType::bf16);
    EXPECT_EQ(file.tensor("i32", {}).dtype, DType::i32);
}

TEST(SafetensorsCorruption, Length) {
    expect_refused("", "ends at byte 0 inside the length of the header, which needs 8 bytes");
    expect_refused(Bytes().put(uint64_t{100}).raw("{}").str(), "ends at byte 10 inside the header");
    expect_refused(Bytes().put(uint64_t{100'000'001}).raw("{}").str(),
                   "claims a header of 100000001 bytes, expected at most 100000000");
    expect_refused(Bytes().put(~uint64_t{0}).raw("{}").str(), "claims a header of 18446744");
    expect_refused(safetensors_bytes("", 0), "has a header that begins with '', expected '{'");
    expect_refused(safetensors_bytes(" {}", 0), "has a header that begins with ' '");
    expect_refused(safetensors_bytes("[]", 0), "has a header that begins with '['");
}

TEST(SafetensorsCorruption, Json) {
    const std::string no_json = "has a header that is no JSON at its byte ";
    expect_refused(safetensors_bytes("{", 0), no_json);
    expect_refused(safetensors_bytes("{}x", 0), no_json + "3");
    expect_refused(safetensors_bytes("{} {}", 0), no_json);
    expect_refused(safetensors_bytes("{\"\xff\":{}}", 0), no_json);
    expect_refused(safetensors_bytes(R"({"t":{"dtype":"F32",}})", 0), no_json);
    expect_refused(safetensors_bytes(std::string("{\"a\":1e999}"), 0), no_json);
    expect_refused(safetensors_bytes(R"({"t":1})", 0), "tensor 't' is the number 1, expected an o");
    expect_refused(safetensors_bytes(R"({"t":null})", 0), "tensor 't' is null");
    expect_refused(safetensors_bytes(R"({"t":[]})", 0), "tensor 't' is an array");
    expect_refused(safetensors_bytes(R"({"t":"x"})", 0), "tensor 't' is the string 'x'");
    // Depth: refused at the first bracket too many, however many follow.
    std::string deep = R"({"t":{"shape":[)" + std::string(1'000'000, '[');
    expect_refused(safetensors_bytes(deep, 0), "tensor 't' has an array in shape, expected num");
    deep = R"({"__metadata__":{"a":)" + std::string(1'000'000, '{');
    expect_refused(safetensors_bytes(deep, 0), "__metadata__ has an object at key 'a', expected a");
}

TEST(SafetensorsCorruption, Metadata) {
    expect_refused(safetensors_bytes(R"({"__metadata__":{"a":1}})", 0),
                   "__metadata__ has the number 1 at key 'a', expected a string");
    expect_refused(safetensors_bytes(R"({"__metadata__":{"a":"","a":""}})", 0),
                   "__metadata__ has the key 'a' twice");
    expect_refused(safetensors_bytes(R"({"__metadata__":{},"__metadata__":{}})", 0),
                   "__metadata__ stands in the header twice");
    expect_refused(safetensors_bytes(R"({"__metadata__":true})", 0), "__metadata__ is a bool");
}

TEST(SafetensorsCorruption, Fields) {
    expect_refused(one(R"("dtype":"F32","shape":[2])"), "tensor 't' has no data_offsets");
    expect_refused(one(R"("dtype":"F32","data_offsets":[0,8])"), "tensor 't' has no shape");
    expect_refused(one(R"("shape":[2],"data_offsets":[0,8])"), "tensor 't' has no dtype");
    expect_refused(one(R"("size":[2])"), "tensor 't' has the unknown field 'size'");
    expect_refused(one(R"("shape":[2],"shape":[2])"), "tensor 't' has shape twice");
    expect_refused(one(R"("dtype":7)"), "tensor 't' has the number 7 as dtype, expected a string");
    expect_refused(one(R"("shape":"x")"), "tensor 't' has the string 'x' as shape, expected an a");
    expect_refused(one(R"("dtype":["F32"])"), "tensor 't' has an array as dtype");
    expect_refused(one(R"("shape":[-1])"), "tensor 't' has the number -1 in shape");
    expect_refused(one(R"("shape":[1.5])"), "tensor 't' has the number '1.5' in shape");
    expect_refused(one(R"("shape":[18446744073709551616])"), "in shape, expected numbers from 0");
    expect_refused(one(R"("shape":[9223372036854775808])"),
                   "has a dimension of 9223372036854775808");
    expect_refused(one(R"("shape":[1,1,1,1,1,1,1,1,1])"), "has more than 8 numbers in shape");
    expect_refused(one(R"("data_offsets":[0])"), "tensor 't' has 1 data_offsets, expected 2");
    expect_refused(one(R"("data_offsets":[0,1,2])"), "has more than 2 numbers in data_offsets");
    expect_refused(one(tensor("I64", "[1]", "[0,8]")),
                   "tensor 't' has the dtype 'I64', expected one of F32, F16, BF16, I32");
    expect_refused(one(tensor("f32", "[2]", "[0,8]")), "tensor 't' has the dtype 'f32'");
    expect_refused(one(tensor("F8_E4M3", "[8]", "[0,8]")), "has the dtype 'F8_E4M3'");
    const std::string t = R"("t":{)" + tensor("F32", "[2]", "[0,8]") + "}";
    expect_refused(safetensors_bytes("{" + t + "," + t + "}", 8),
                   "tensor 't' stands in the header twice");
}

TEST(SafetensorsCorruption, Places) {
    expect_refused(one(tensor("F32", "[2]", "[0,8]"), 7),
                   "tensor 't' lies at bytes 0 to 8, but the file has 7 bytes of tensor data");
    expect_refused(one(tensor("F32", "[2]", "[8,0]")), "tensor 't' lies at bytes 8 to 0");
    expect_refused(one(tensor("F32", "[2]", "[0,18446744073709551615]")), "tensor 't' lies at");
    expect_refused(one(tensor("F32", "[3]", "[0,8]")),
                   "tensor 't' of shape [3] has 8 bytes, expected 12");
    expect_refused(one(tensor("F32", "[4611686018427387904,4]", "[0,8]")),
                   "has 8 bytes, expected less than 2^63");
    expect_refused(one(tensor("F32", "[4294967296,4294967296,0]", "[0,0]"), 0),
                   "has 0 bytes, expected less than 2^63");
    expect_refused(one(tensor("F32", "[1]", "[4,8]")),
                   "tensor 't' begins at byte 4 of the tensor data, expected 0 (there is a hole");
    expect_refused(one(tensor("F32", "[1]", "[0,4]")), "has 8 bytes of tensor data, expected 4");
    expect_refused(safetensors_bytes("{}", 1), "has 1 bytes of tensor data, expected 0");
    const auto two = [](const std::string& offsets, size_t data) {
        return safetensors_bytes(R"({"a":{)" + tensor("F32", "[2]", "[0,8]") + R"(},"b":{)" +
                                     tensor("F32", "[2]", offsets) + "}}",
                                 data);
    };
    expect_refused(two("[4,12]", 12),
                   "tensor 'b' begins at byte 4 of the tensor data, expected 8 "
                   "(it overlaps another tensor)");
    expect_refused(two("[0,8]", 8), "tensor 'b' begins at byte 0");
    expect_refused(two("[12,20]", 20), "(there is a hole before it)");
    testing_bytes::open_all<SafetensorsFile>(two("[8,16]", 16));
}

TEST(SafetensorsCorruption, TruncatedAnywhere) {
    const std::string bytes = testing_bytes::full_safetensors();
    EXPECT_NO_THROW(testing_bytes::open_all<SafetensorsFile>(bytes));
    for (size_t size = 0; size < bytes.size(); ++size) {
        EXPECT_THROW(testing_bytes::open_all<SafetensorsFile>(bytes.substr(0, size)), Error);
    }
}

TEST(SafetensorsCorruption, RandomDamageNeverCrashes) {
    const std::string bytes = testing_bytes::full_safetensors();
    Random random(2);
    int refused = 0;
    for (int i = 0; i < 5000; ++i) {
        try {
            testing_bytes::open_all<SafetensorsFile>(testing_bytes::damaged(bytes, random));
        } catch (const Error&) {
            ++refused;
        }
    }
    EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace muster
