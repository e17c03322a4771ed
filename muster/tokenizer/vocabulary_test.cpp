// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/vocabulary.h"

#include <gmock/gmock.h>

#include <cmath>
#include <functional>

#include "muster/core/error.h"
#include "muster/tokenizer/test_vocabulary.h"

namespace muster {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(Vocabulary, BytePiecesAreSpelledOneWay) {
    for (int b = 0; b < 256; ++b) {
        EXPECT_EQ(byte_of_piece(byte_piece(static_cast<uint8_t>(b))), b);
    }
    EXPECT_EQ(byte_piece(0x0A), "<0x0A>");
    for (const char* wrong : {"<0x0a>", "<0x0>", "0x0A", "<0x0A", "<0x0G>", "<0X0A>", "", "a"}) {
        EXPECT_EQ(byte_of_piece(wrong), std::nullopt) << wrong;
    }
}

struct Damage {
    std::string message;
    std::function<void(Vocabulary&)> make;
};

TEST(Vocabulary, EachDamageIsNamed) {
    const std::vector<Damage> damages = {
        {"empty", [](Vocabulary& v) { v = Vocabulary(); }},
        {"scores", [](Vocabulary& v) { v.scores.pop_back(); }},
        {"types", [](Vocabulary& v) { v.types.push_back(TokenType::normal); }},
        {"piece 260 is empty", [](Vocabulary& v) { v.pieces[260].clear(); }},
        {"piece 260 (<s>) is repeated", [](Vocabulary& v) { v.pieces[260] = "<s>"; }},
        {"piece 260 is not valid UTF-8", [](Vocabulary& v) { v.pieces[260] = "\xFF"; }},
        {"piece 260 has 1025 bytes", [](Vocabulary& v) { v.pieces[260].assign(1025, 'a'); }},
        {"score of piece 260", [](Vocabulary& v) { v.scores[260] = NAN; }},
        {"score of piece 260", [](Vocabulary& v) { v.scores[260] = INFINITY; }},
        {"type of piece 260", [](Vocabulary& v) { v.types[260] = static_cast<TokenType>(7); }},
        {"type of piece 260", [](Vocabulary& v) { v.types[260] = static_cast<TokenType>(0); }},
        {"id of bos", [](Vocabulary& v) { v.bos = v.size(); }},
        {"id of eos", [](Vocabulary& v) { v.eos = -2; }},
        {"id of unk", [](Vocabulary& v) { v.unk = 1 << 30; }},
        {"255 byte pieces", [](Vocabulary& v) { v.types[5] = TokenType::normal; }},
        {"byte piece 3 is <0x0g>", [](Vocabulary& v) { v.pieces[3] = "<0x0g>"; }},
        {"neither byte pieces nor an unknown token",
         [](Vocabulary& v) {
             for (auto& type : v.types) type = TokenType::normal;
             v.unk = -1;
         }},
    };
    for (const Damage& damage : damages) {
        Vocabulary v = test::small_vocabulary();
        damage.make(v);
        const auto message = ThrowsMessage<Error>(HasSubstr(damage.message));
        EXPECT_THAT([&] { Tokenizer{v}; }, message);
        EXPECT_THAT([&] { to_sentencepiece(v); }, message);
        EXPECT_THAT([&] { to_tokenizer_json(v); }, message);
    }
    EXPECT_NO_THROW(Tokenizer{test::small_vocabulary()});
}

}  // namespace
}  // namespace muster
