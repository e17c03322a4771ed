// SPDX-License-Identifier: Apache-2.0
// That Hugging Face's library gives the same ids is checked by tests/oracle/tokenizer_oracle.mjs.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "muster/tokenizer/test_vocabulary.h"

namespace muster {
namespace {

using Json = nlohmann::json;

Json json_of(const Vocabulary& v) { return Json::parse(to_tokenizer_json(v)); }

TEST(TokenizerJson, HoldsTheVocabularyAndItsSpecialTokens) {
    Vocabulary v = test::small_vocabulary();
    test::add_piece(v, "\u2581user\u2581", TokenType::user_defined);
    const Json json = json_of(v);
    const Json& model = json.at("model");
    EXPECT_EQ(model.at("type"), "BPE");
    EXPECT_EQ(model.at("byte_fallback"), true);
    EXPECT_EQ(model.at("unk_token"), "<unk>");
    ASSERT_EQ(model.at("vocab").size(), v.pieces.size());
    for (int32_t id = 0; id < v.size(); ++id) EXPECT_EQ(model.at("vocab").at(v.pieces[id]), id);
    const Json& added = json.at("added_tokens");
    ASSERT_EQ(added.size(), 4U);
    EXPECT_EQ(added[1].at("content"), "<s>");
    EXPECT_EQ(added[1].at("special"), true);
    EXPECT_EQ(added[3].at("content"), " user ");
    EXPECT_EQ(added[3].at("special"), false);
    EXPECT_EQ(json.at("post_processor").at("special_tokens").at("<s>").at("ids"), Json({1}));
}

TEST(TokenizerJson, MergesAreEverySplitOfEachPieceBestScoreFirst) {
    Vocabulary v = test::special_pieces();
    for (const char* c : {"a", "b", "c"}) test::add_piece(v, c, TokenType::normal, -9);
    test::add_piece(v, "abc", TokenType::normal, -4);
    test::add_piece(v, "bc", TokenType::normal, -3);
    test::add_piece(v, "ab", TokenType::normal, -2);
    test::add_piece(v, "ac", TokenType::unused, -1);
    const Json expected = Json::parse(R"([["a","b"],["b","c"],["a","bc"],["ab","c"]])");
    EXPECT_EQ(json_of(v).at("model").at("merges"), expected);
}

TEST(TokenizerJson, SaysWhetherBosAndASpaceStandInFront) {
    Vocabulary v = test::small_vocabulary();
    EXPECT_EQ(json_of(v).at("normalizer").at("type"), "Replace");
    EXPECT_EQ(json_of(v).at("decoder").at("decoders").size(), 3U);
    v.add_space_prefix = true;
    v.add_bos = false;
    const Json json = json_of(v);
    EXPECT_EQ(json.at("normalizer").at("normalizers")[0].at("prepend"), "\u2581");
    EXPECT_EQ(json.at("decoder").at("decoders").back().at("type"), "Strip");
    EXPECT_EQ(json.at("post_processor"), nullptr);
}

}  // namespace
}  // namespace muster
