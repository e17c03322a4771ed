// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/tokenizer.h"

#include <gmock/gmock.h>

#include <ctime>
#include <thread>

#include "muster/core/error.h"
#include "muster/tokenizer/test_vocabulary.h"

namespace muster {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;
using Ids = std::vector<int32_t>;

int32_t byte_id(int byte) { return 3 + byte; }

int32_t id_of(const Vocabulary& v, std::string_view piece) {
    return static_cast<int32_t>(std::find(v.pieces.begin(), v.pieces.end(), piece) -
                                v.pieces.begin());
}

TEST(Tokenizer, AnyValidTextComesBack) {
    const Tokenizer tokenizer(test::small_vocabulary());
    Random random(1);
    for (int i = 0; i < 300; ++i) {
        std::string text = i % 2 ? test::random_text(random, 50)
                                 : test::random_pieces(tokenizer.vocabulary(), random, 20);
        if (i % 3 == 0) text += "\u2581 \u2581\u2581";
        EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
    }
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(test::kText)), test::kText);
}

TEST(Tokenizer, TheBestScoreMergesFirstAndTheLeftmostOfEqualOnes) {
    Vocabulary v = test::special_pieces();
    for (const char* c : {"a", "b", "c"}) test::add_piece(v, c, TokenType::normal, -9);
    test::add_piece(v, "bc", TokenType::normal, -1);
    test::add_piece(v, "ab", TokenType::normal, -2);
    test::add_piece(v, "aa", TokenType::normal, -3);
    const Tokenizer tokenizer(v);
    EXPECT_THAT(tokenizer.encode("abc", false), ElementsAre(id_of(v, "a"), id_of(v, "bc")));
    EXPECT_THAT(tokenizer.encode("aaa", false), ElementsAre(id_of(v, "aa"), id_of(v, "a")));
    EXPECT_THAT(tokenizer.encode("aab", false), ElementsAre(id_of(v, "a"), id_of(v, "ab")));
}

TEST(Tokenizer, BosStandsInFrontWhenBothSidesWantIt) {
    Vocabulary v = test::small_vocabulary();
    EXPECT_THAT(Tokenizer(v).encode(""), ElementsAre(1));
    EXPECT_THAT(Tokenizer(v).encode("", false), IsEmpty());
    v.add_bos = false;
    EXPECT_THAT(Tokenizer(v).encode(""), IsEmpty());
    v.add_bos = true;
    v.bos = -1;
    EXPECT_THAT(Tokenizer(v).encode(""), IsEmpty());
}

TEST(Tokenizer, TextThatLooksLikeAControlTokenStaysText) {
    const Tokenizer tokenizer(test::small_vocabulary());
    const std::string text = "<s></s><unk> <0x41>";
    const Ids ids = tokenizer.encode(text, false);
    for (const int32_t id : ids) EXPECT_GE(id, 3);
    EXPECT_EQ(tokenizer.decode(ids), text);
    EXPECT_GT(ids.size(), 4U);
}

TEST(Tokenizer, InvalidPartsBecomeReplacementCharacters) {
    const Tokenizer tokenizer(test::small_vocabulary());
    for (const char* text : {"\xFF", "a\xE2\x96", "\xC0\xAF!", "\xED\xA0\x80", "\xF0\x9F\x98 x"}) {
        EXPECT_EQ(tokenizer.encode(text), tokenizer.encode(to_valid_utf8(text))) << text;
        EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), to_valid_utf8(text));
    }
    const std::string nul("a\0b\0", 4);
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(nul)), nul);
}

TEST(Tokenizer, TheSpaceSymbolInTextIsItsBytes) {
    const Tokenizer tokenizer(test::small_vocabulary());
    EXPECT_THAT(tokenizer.encode("\u2581", false),
                ElementsAre(byte_id(0xE2), byte_id(0x96), byte_id(0x81)));
    const Ids space = tokenizer.encode(" ", false);
    EXPECT_THAT(space, ElementsAre(id_of(tokenizer.vocabulary(), "\u2581")));
}

TEST(Tokenizer, BytesOfTokens) {
    const Vocabulary& v = test::small_vocabulary();
    const Tokenizer tokenizer(v);
    EXPECT_EQ(tokenizer.token_bytes(0), "");
    EXPECT_EQ(tokenizer.token_bytes(1), "");
    EXPECT_EQ(tokenizer.token_bytes(byte_id(0xFF)), "\xFF");
    EXPECT_EQ(tokenizer.token_bytes(byte_id(0)), std::string(1, '\0'));
    EXPECT_EQ(tokenizer.token_bytes(id_of(v, "\u2581the")), " the");
    EXPECT_EQ(tokenizer.decode(Ids{1, byte_id(0xF0), byte_id('x'), 2}), "\xF0x");
    for (const int32_t id : {-1, v.size(), INT32_MAX}) {
        const auto message = ThrowsMessage<Error>(HasSubstr("token id " + std::to_string(id)));
        EXPECT_THAT([&] { (void)tokenizer.token_bytes(id); }, message);
        EXPECT_THAT([&] { (void)tokenizer.decode(Ids{1, id}); }, message);
    }
}

TEST(Tokenizer, ASpaceInFrontIsAddedAndTakenAway) {
    Vocabulary v = test::small_vocabulary();
    const Tokenizer plain(v);
    v.add_space_prefix = true;
    const Tokenizer prefixed(v);
    EXPECT_EQ(prefixed.encode("the end"), plain.encode(" the end"));
    EXPECT_THAT(prefixed.encode("", false), IsEmpty());
    for (const char* text : {"", "the end", " the end", "  x"}) {
        EXPECT_EQ(prefixed.decode(prefixed.encode(text)), text);
    }
}

TEST(Tokenizer, WithoutBytesARunOfUnknownCharactersIsOneToken) {
    Vocabulary v = test::special_pieces(false);
    test::add_piece(v, "a", TokenType::normal, -1);
    const Tokenizer tokenizer(v);
    EXPECT_THAT(tokenizer.encode("axyza\xFF", false), ElementsAre(3, 0, 3, 0));
}

TEST(Tokenizer, UserDefinedPiecesAreFoundBeforeMerging) {
    Vocabulary v = test::small_vocabulary();
    test::add_piece(v, "the\u2581ha", TokenType::user_defined);
    test::add_piece(v, "the", TokenType::user_defined);
    const int32_t longer = v.size() - 2;
    const Tokenizer tokenizer(v);
    EXPECT_THAT(tokenizer.encode("the harbour", false), testing::Contains(longer));
    EXPECT_EQ(tokenizer.encode("the ", false)[0], longer + 1);
    EXPECT_EQ(tokenizer.decode(tokenizer.encode("the harbour the")), "the harbour the");
}

// Processor time, with room for a sanitizer; the encoder needs about 0.3 s.
TEST(Tokenizer, LongInputsTakeLinearTime) {
    const Tokenizer tokenizer(test::small_vocabulary());
    Random random(3);
    const std::clock_t start = std::clock();
    for (const std::string& text : {test::random_bytes(random, 1 << 20), std::string(1 << 20, 'e'),
                                    std::string(1 << 20, ' '), std::string(1 << 20, '\n')}) {
        EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), to_valid_utf8(text));
    }
    EXPECT_LT(std::clock() - start, 10 * CLOCKS_PER_SEC);
}

TEST(Tokenizer, SeveralThreadsReadOneTokenizer) {
    const Tokenizer tokenizer(test::small_vocabulary());
    const Ids expected = tokenizer.encode(test::kText);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 50; ++i) EXPECT_EQ(tokenizer.encode(test::kText), expected);
        });
    }
    for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace muster
