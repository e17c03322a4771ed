// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cstring>
#include <filesystem>

#include "muster/checkpoint/gguf.h"
#include "muster/checkpoint/test_bytes.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/test_directory.h"

namespace muster {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

/// Tensor number i: 100 + i bytes-long rows of f32, filled with i.
GgufWriter model(int tensors) {
    GgufWriter writer;
    writer.set_string("general.architecture", "test");
    writer.set_u32("test.block_count", 3);
    for (int i = 0; i < tensors; ++i) {
        writer.add_tensor("t" + std::to_string(i), DType::f32, {25 + i},
                          std::vector<std::byte>(4 * (25 + i), static_cast<std::byte>(i)));
    }
    return writer;
}

class SplitGguf : public testing::Test {
  protected:
    fs::path path(const char* name) const { return directory_ / name; }
    std::vector<fs::path> write(int tensors = 7) {
        return model(tensors).write_split(path("m.gguf"), 300);
    }
    std::string failure(const fs::path& p) {
        try {
            open_gguf(p);
        } catch (const Error& e) {
            return e.what();
        }
        return "no error";
    }

  private:
    TemporaryDirectory directory_;
};

TEST_F(SplitGguf, AnyPartOpensTheWholeModel) {
    const auto parts = write();
    ASSERT_EQ(parts.size(), 4u);  // two tensors of 128 or 160 bytes in 300
    EXPECT_EQ(parts[0].filename(), "m-00001-of-00004.gguf");
    EXPECT_FALSE(fs::exists(path("m.gguf")));
    for (const fs::path& part : parts) {
        const WeightMap map = open_gguf(part);
        EXPECT_EQ(map.string("general.architecture"), "test");
        EXPECT_EQ(map.metadata().size(), 2u) << "split.* are not the model's";
        ASSERT_EQ(map.tensors().size(), 7u);
        for (int i = 0; i < 7; ++i) {
            const TensorView& t = map.tensor("t" + std::to_string(i), {25 + i});
            for (int64_t b = 0; b < t.bytes(); ++b) ASSERT_EQ(static_cast<int>(t.data[b]), i);
        }
    }
    // As llama.cpp types them.
    const GgufFile second(parts[1]);
    EXPECT_EQ(second.stored_type("split.no"), static_cast<uint32_t>(gguf::ValueType::u16));
    EXPECT_EQ(second.stored_type("split.count"), static_cast<uint32_t>(gguf::ValueType::u16));
    EXPECT_EQ(second.stored_type("split.tensors.count"),
              static_cast<uint32_t>(gguf::ValueType::i32));
    EXPECT_EQ(second.integer("split.no"), 1);
    EXPECT_EQ(second.metadata().size(), 3u);
    EXPECT_EQ(second.tensors().size(), 2u);
}

TEST_F(SplitGguf, WhatFitsIsNotSplit) {
    EXPECT_THAT(model(3).write_split(path("m.gguf"), 1 << 20), ElementsAre(path("m.gguf")));
    EXPECT_EQ(open_gguf(path("m.gguf")).tensors().size(), 3u);
    EXPECT_FALSE(GgufFile(path("m.gguf")).has("split.count"));
}

TEST_F(SplitGguf, ATensorBeyondTheLimitHasAPartOfItsOwn) {
    EXPECT_EQ(model(3).write_split(path("m.gguf"), 1).size(), 3u);
    EXPECT_EQ(open_gguf(path("m-00002-of-00003.gguf")).tensors().size(), 3u);
}

TEST_F(SplitGguf, WriterRefusesMorePartsAndBytesThanCanBe) {
    const auto refusal = [](const auto& body) -> std::string {
        try {
            body();
        } catch (const Error& e) {
            return e.what();
        }
        return "no error";
    };
    const std::byte bytes[4]{};
    GgufWriter many;
    for (int i = 0; i < 65536; ++i)
        many.add_tensor("t" + std::to_string(i), TensorView{DType::f32, {1}, bytes});
    EXPECT_THAT(refusal([&] { many.write_split(path("m.gguf"), 1); }),
                HasSubstr("would have 65536 parts, expected at most 65535"));
    GgufWriter large;
    for (const char* name : {"a", "b", "c"})
        large.add_tensor(name, DType::f32, {1 << 30, 1 << 29}, [](const GgufWriter::Sink&) {});
    EXPECT_THAT(refusal([&] { large.write(path("m.gguf")); }),
                HasSubstr("the tensors have more than 2^62 bytes together"));
    EXPECT_THAT(refusal([&] { large.copy(WeightMap("other.gguf"), "no.such"); }),
                HasSubstr("[other.gguf] has no metadata key 'no.such'"));
    EXPECT_TRUE(fs::is_empty(path("").parent_path())) << "no file is left behind";
}

TEST_F(SplitGguf, RefusesWhatIsNoWholeModel) {
    const auto parts = write();
    fs::rename(parts[2], path("away"));
    EXPECT_THAT(failure(parts[0]),
                HasSubstr("is split in 4 parts, of which 'm-00003-of-00004.gguf' is missing"));
    fs::copy(parts[1], parts[2]);
    EXPECT_THAT(failure(parts[0]), HasSubstr("belongs to another model"));
    fs::remove(parts[2]);
    model(8).write_split(path("x.gguf"), 300);
    fs::copy(path("x-00003-of-00004.gguf"), parts[2]);  // of a model of 8 tensors
    EXPECT_THAT(failure(parts[3]), HasSubstr("belongs to another model"));
    fs::rename(parts[0], path("renamed.gguf"));
    EXPECT_THAT(failure(path("renamed.gguf")), HasSubstr("ends in '-00001-of-00004.gguf'"));
}

TEST_F(SplitGguf, RefusesKeysThatCannotBe) {
    const auto file = [&](uint16_t number, uint16_t count, int32_t tensors) {
        testing_bytes::Bytes b;
        b.gguf(1, 3).key("split.no", gguf::ValueType::u16).put(number);
        b.key("split.count", gguf::ValueType::u16).put(count);
        b.key("split.tensors.count", gguf::ValueType::i32).put(tensors);
        b.tensor("t", {1}, 0, 0).pad().zeros(32);
        write_file(path("k.gguf"), b.str());
        return failure(path("k.gguf"));
    };
    EXPECT_EQ(file(0, 1, 1), "no error");
    EXPECT_THAT(file(0, 0, 1), HasSubstr("'split.count' is 0, expected 1 to 65535"));
    EXPECT_THAT(file(2, 2, 1), HasSubstr("'split.no' is 2, expected 0 to 1"));
    EXPECT_THAT(file(0, 1, -1), HasSubstr("'split.tensors.count' is -1"));
    EXPECT_THAT(file(0, 1, 2), HasSubstr("hold 1 tensors, expected 2"));
}

class StreamedGguf : public SplitGguf {};

TEST_F(StreamedGguf, TensorsAreMadeWhileTheyAreWritten) {
    GgufWriter writer;
    writer.set_string("general.architecture", "test");
    int made = 0;
    writer.add_tensor("a", DType::f32, {2, 3}, [&](const GgufWriter::Sink& sink) {
        ++made;
        for (int i = 0; i < 6; ++i) {
            const float value = static_cast<float>(i);
            sink(std::as_bytes(std::span(&value, 1)));
        }
    });
    writer.add_tensor("b", DType::q8_0, {1, 32}, std::vector<std::byte>(34, std::byte{1}));
    EXPECT_EQ(made, 0);
    int64_t last = 0;
    writer.write(path("s.gguf"), [&](std::string_view, int64_t done, int64_t total) {
        EXPECT_EQ(total, 58);
        EXPECT_GT(done, last);
        last = done;
        return true;
    });
    EXPECT_EQ(made, 1);
    EXPECT_EQ(last, 58);
    const GgufFile file(path("s.gguf"));
    EXPECT_EQ(reinterpret_cast<const float*>(file.tensor("a", {2, 3}).data)[5], 5.0f);
    EXPECT_EQ(file.tensor("b", {32}).data[33], std::byte{1});
}

TEST_F(StreamedGguf, RefusesTooFewAndTooManyBytesAndStopsWhenAsked) {
    const auto attempt = [&](size_t bytes, const Progress& progress) -> std::string {
        GgufWriter writer;
        writer.add_tensor("a", DType::f32, {4}, [bytes](const GgufWriter::Sink& sink) {
            sink(std::vector<std::byte>(bytes));
        });
        try {
            writer.write(path("s.gguf"), progress);
        } catch (const Error& e) {
            return e.what();
        }
        return "no error";
    };
    EXPECT_THAT(attempt(15, {}), HasSubstr("'a': 15 bytes were made, expected 16"));
    EXPECT_THAT(attempt(17, {}), HasSubstr("'a': more than its 16 bytes were made"));
    const auto stop = [](std::string_view, int64_t, int64_t) { return false; };
    EXPECT_THAT(attempt(16, stop), HasSubstr("writing was stopped"));
    EXPECT_TRUE(fs::is_empty(path("").parent_path())) << "no file is left behind";
    EXPECT_EQ(attempt(16, {}), "no error");
}

TEST_F(StreamedGguf, CopiedMetadataKeepsItsTypes) {
    write_file(path("full.gguf"), testing_bytes::full_gguf());
    const GgufFile from(path("full.gguf"));
    GgufWriter writer;
    for (const auto& entry : from.metadata()) writer.copy(from, entry.first);
    writer.write(path("copy.gguf"));
    const GgufFile copy(path("copy.gguf"));
    EXPECT_EQ(copy.metadata(), from.metadata());
    for (const auto& entry : from.metadata())
        EXPECT_EQ(copy.stored_type(entry.first), from.stored_type(entry.first)) << entry.first;
}

TEST_F(StreamedGguf, MetadataOfOtherOriginTakesUsualTypes) {
    WeightMap from("made");
    from.set("u", uint64_t{7});
    from.set("U", uint64_t{1} << 40);
    from.set("i", int64_t{-7});
    from.set("d", 0.5);
    from.set("is", MetadataArray{std::vector<int64_t>{1, -2}});
    GgufWriter writer;
    for (const auto& entry : from.metadata()) writer.copy(from, entry.first);
    EXPECT_THROW(writer.copy(from, "none"), Error);
    writer.write(path("made.gguf"));
    const GgufFile file(path("made.gguf"));
    EXPECT_EQ(file.metadata(), from.metadata());
    using gguf::ValueType;
    const auto type = [&](const char* key) {
        return static_cast<ValueType>(*file.stored_type(key));
    };
    EXPECT_EQ(type("u"), ValueType::u32);
    EXPECT_EQ(type("U"), ValueType::u64);
    EXPECT_EQ(type("i"), ValueType::i32);
    EXPECT_EQ(type("d"), ValueType::f32);
    EXPECT_EQ(type("is"), ValueType::i32);
}

}  // namespace
}  // namespace muster
