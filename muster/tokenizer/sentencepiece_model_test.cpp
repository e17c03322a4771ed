// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "muster/core/error.h"
#include "muster/tokenizer/protobuf_wire.h"
#include "muster/tokenizer/test_vocabulary.h"

namespace muster {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

void expect_same(const Vocabulary& a, const Vocabulary& b) {
    EXPECT_EQ(a.pieces, b.pieces);
    EXPECT_EQ(a.scores, b.scores);
    EXPECT_EQ(a.types, b.types);
    EXPECT_EQ(a.bos, b.bos);
    EXPECT_EQ(a.eos, b.eos);
    EXPECT_EQ(a.unk, b.unk);
    EXPECT_EQ(a.add_space_prefix, b.add_space_prefix);
}

TEST(SentencePieceModel, RoundTrip) {
    Vocabulary v = test::small_vocabulary();
    expect_same(Tokenizer::from_sentencepiece(to_sentencepiece(v)).vocabulary(), v);
    v.add_space_prefix = true;
    v.bos = -1;
    v.eos = 1;
    expect_same(Tokenizer::from_sentencepiece(to_sentencepiece(v)).vocabulary(), v);
}

TEST(SentencePieceModel, NeedsAnUnknownToken) {
    Vocabulary v = test::small_vocabulary();
    v.unk = -1;
    EXPECT_THAT([&] { to_sentencepiece(v); }, ThrowsMessage<Error>(HasSubstr("unknown token")));
}

/// A model with further settings behind the others, which override them.
std::string with_settings(uint32_t message, const WireWriter& settings) {
    WireWriter writer;
    writer.bytes(message, settings.message());
    return to_sentencepiece(test::small_vocabulary()) + writer.message();
}

void expect_refused(uint32_t message, uint32_t field, int64_t value, const std::string& part) {
    WireWriter settings;
    settings.integer(field, value);
    const std::string model = with_settings(message, settings);
    EXPECT_THAT([&] { Tokenizer::from_sentencepiece(model); },
                ThrowsMessage<Error>(HasSubstr(part)));
}

TEST(SentencePieceModel, WhatWouldGiveOtherIdsIsRefusedByName) {
    expect_refused(2, 3, 1, "model_type is 1");
    expect_refused(2, 24, 1, "treat_whitespace_as_suffix");
    expect_refused(2, 35, 0, "byte_fallback");
    expect_refused(3, 4, 1, "remove_extra_whitespaces");
    expect_refused(3, 5, 0, "escape_whitespaces");
    expect_refused(2, 3, -1, "model_type is -1");
    WireWriter settings;
    settings.bytes(1, "nmt_nfkc");
    settings.bytes(2, "xx");
    EXPECT_THAT([&] { Tokenizer::from_sentencepiece(with_settings(3, settings)); },
                ThrowsMessage<Error>(HasSubstr("the normaliser \"nmt_nfkc\"")));
    EXPECT_THAT([&] { Tokenizer::from_sentencepiece(with_settings(5, settings)); },
                ThrowsMessage<Error>(HasSubstr("denormaliser")));
    EXPECT_THAT([&] { Tokenizer::from_sentencepiece(""); },
                ThrowsMessage<Error>(HasSubstr("no pieces")));
}

TEST(SentencePieceModel, WireErrorsAreNamed) {
    const auto refused = [](std::string_view bytes, const std::string& part) {
        EXPECT_THAT([&] { Tokenizer::from_sentencepiece(bytes); },
                    ThrowsMessage<Error>(HasSubstr(part)));
    };
    refused("\x0A", "ends inside a number");
    refused("\x0A\x05z", "longer than what holds it");
    refused("\x08\x01", "field 1 has wire type 0, expected 2");
    refused("\x0B", "no known wire type");
    refused(std::string_view("\x02\x00", 2), "field number");
    refused("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", "more than ten bytes");
}

TEST(SentencePieceModel, DamagedBytesNeverCrash) {
    const std::string model = to_sentencepiece(test::learn("the cat and the hat", 6));
    Random random(11);
    int refused = 0;
    const auto load = [&](std::string_view bytes) {
        try {
            const auto tokenizer = Tokenizer::from_sentencepiece(bytes);
            tokenizer.decode(tokenizer.encode("the cat \xFF"));
        } catch (const Error&) {
            ++refused;
        }
    };
    for (size_t end = 0; end < model.size(); end += 7) load(std::string_view(model).substr(0, end));
    for (int i = 0; i < 1500; ++i) {
        std::string damaged = model;
        for (uint64_t n = 1 + random.below(4); n > 0; --n) {
            damaged[random.below(damaged.size())] ^= static_cast<char>(1 << random.below(8));
        }
        load(damaged);
    }
    EXPECT_GT(refused, 500);
}

}  // namespace
}  // namespace muster
