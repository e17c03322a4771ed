// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/pre_tokenizer.h"

#include <gmock/gmock.h>

#include "muster/core/error.h"
#include "muster/core/random.h"
#include "muster/tokenizer/byte_bpe.h"
#include "muster/tokenizer/byte_level.h"
#include "muster/tokenizer/nfc.h"

namespace muster {
namespace {

using testing::ElementsAre;
using Words = std::vector<std::string>;

Words words(const std::vector<SplitRule>& rules, std::string_view text) {
    Words result;
    SplitRegex::Search search;
    PreTokenizer(rules, "test").split(text, search, [&](auto w) { result.emplace_back(w); });
    return result;
}

Words named(std::string_view name, std::string_view text) {
    return words(rules_of(*named_split(name)), text);
}

TEST(PreTokenizer, FamiliesCutDifferently) {
    const std::string_view text = "I'LL pay 12345 €\n\n  now";
    EXPECT_THAT(named("gpt-2", text),
                ElementsAre("I", "'", "LL", " pay", " 12345", " €", "\n\n ", " now"));
    EXPECT_THAT(named("llama-bpe", text),
                ElementsAre("I", "'LL", " pay", " ", "123", "45", " €\n\n", " ", " now"));
    EXPECT_THAT(named("qwen2", "a 12"), ElementsAre("a", " ", "1", "2"));
    EXPECT_THAT(named("gpt-4o", "HelloWorld's"), ElementsAre("Hello", "World's"));
    EXPECT_THAT(named("deepseek-v3", "天地abc!x"), ElementsAre("天地", "abc", "!x"));
    EXPECT_THAT(named("refact", "ab12"), ElementsAre("ab", "1", "2"));
    EXPECT_THAT(named("kimi-k2", "天地abc地X's 1234"),
                ElementsAre("天地", "abc", "地", "X's", " ", "123", "4"));
    EXPECT_EQ(named_split("no such name"), nullptr);
}

TEST(PreTokenizer, EveryNameCompilesAndKeepsAllOfTheText) {
    for (const char* name :
         {"llama-bpe",    "dbrx",           "qwen2",       "stablelm2",  "qwen35",     "gpt-4o",
          "kimi-k2",      "superbpe",       "tekken",      "gpt-2",      "olmo",       "refact",
          "deepseek-llm", "deepseek-coder", "deepseek-v3", "bailingmoe", "seed-coder", "exaone-moe",
          "falcon",       "bloom",          "viking",      "default"}) {
        for (const std::string& text :
             {std::string("Zwölf 123 天地 😀\r\n\t x\u0301 don't, §4 (a.b) \u00a0  "),
              std::string(1 << 16, 'a'), std::string(1 << 16, ' '), std::string(1 << 16, '7')}) {
            std::string joined;
            for (const std::string& word : named(name, text)) joined += word;
            EXPECT_EQ(joined, text) << name;
        }
        EXPECT_FALSE(name_of_rules(rules_of(*named_split(name)), false, false).empty()) << name;
    }
}

TEST(PreTokenizer, WhiteSpaceIsUnicodes) {
    const std::vector<SplitRule> rules = {{R"(\s)", SplitRule::Keep::matches}};
    EXPECT_THAT(words(rules, "\u0085x\ufeffx\u180ex\u3000"), ElementsAre("\u0085", "\u3000"));
}

TEST(PreTokenizer, HostilePatternsAreRefusedOrGiveUp) {
    for (const char* pattern : {"(", "[a[b]]", R"([\p{L}&&[^a]])", R"(\C)", "(*UTF)a", R"(a\Kb)"}) {
        EXPECT_THROW(words({{pattern}}, "a"), Error) << pattern;
    }
    EXPECT_THROW(words({{std::string(20000, 'a')}}, "a"), Error);
    EXPECT_THROW(words({{std::string(100, '(') + std::string(100, ')')}}, "a"), Error);
    EXPECT_THROW(words({{"(a|a)+[bc]"}}, std::string(64, 'a')), Error);
    EXPECT_THROW(words(std::vector<SplitRule>(17, SplitRule{"a"}), "a"), Error);
}

TEST(PreTokenizer, AnEmptyMatchIsACut) {
    EXPECT_THAT(words({{R"((?=(\d{3})+(?!\d)))"}}, "1234567é"), ElementsAre("1", "234", "567é"));
}

TEST(ByteLevel, EveryByteHasACharacterOfItsOwn) {
    for (int b = 0; b < 256; ++b) {
        EXPECT_EQ(byte_of_character(character_of_byte(static_cast<uint8_t>(b))), b);
    }
    EXPECT_EQ(byte_level_piece(" \n"), "ĠĊ");
    EXPECT_EQ(byte_level_piece("\xAD"), "Ń");
    EXPECT_EQ(byte_of_character(0x144), std::nullopt);
    EXPECT_EQ(bytes_of_byte_level_piece("Ġé"), " \xE9");
    EXPECT_EQ(bytes_of_byte_level_piece("a b"), "a b");
}

TEST(Nfc, ComposesAndReorders) {
    EXPECT_EQ(to_nfc("e\u0301 \u1100\u1161"), "\u00e9 \uac00");
    EXPECT_EQ(to_nfc("q\u0307\u0323"), "q\u0323\u0307");
    EXPECT_EQ(to_nfc("\u0958\u212b"), "\u0915\u093c\u00c5");
    std::string marks = "a";
    for (int i = 0; i < 200000; ++i) marks += i % 2 ? "\u0316" : "\u0301";
    EXPECT_EQ(to_nfc(marks).size(), marks.size() - 1);  // á takes one of the marks
}

/// Merges of the pieces of a vocabulary, by the definition: the first of the list, leftmost.
std::vector<int32_t> by_definition(const Vocabulary& v, std::vector<int32_t> symbols) {
    for (size_t rank = 0; rank < v.merges.size();) {
        const PieceMerge& merge = v.merges[rank];
        size_t at = 0;
        while (at + 1 < symbols.size() &&
               (symbols[at] != merge.left || symbols[at + 1] != merge.right)) {
            ++at;
        }
        if (at + 1 >= symbols.size()) {
            ++rank;
            continue;
        }
        symbols[at] = merge.merged;
        symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(at) + 1);
        rank = 0;
    }
    return symbols;
}

TEST(ByteBpe, MergesAsTheDefinitionSays) {
    Vocabulary v;
    v.pieces = {"a", "b", "c", "aa", "ab", "aab", "bc", "aabbc", "ca", "aaa"};
    v.types.assign(v.pieces.size(), TokenType::normal);
    v.merges = {{0, 1, 4}, {0, 0, 3}, {0, 4, 5}, {1, 2, 6}, {5, 6, 7}, {2, 0, 8}, {3, 0, 9}};
    const ByteBpe bpe(v, v.pieces);
    Random random(7);
    for (int round = 0; round < 2000; ++round) {
        std::string word;
        std::vector<int32_t> letters;
        for (size_t i = 0, n = 1 + random.below(120); i < n; ++i) {
            letters.push_back(static_cast<int32_t>(random.below(3)));
            word += static_cast<char>('a' + letters.back());
        }
        ByteBpe::Scratch scratch(word.size());
        const std::vector<int32_t> expected = by_definition(v, letters);
        for (int again = 0; again < 2; ++again) {  // the second time from the cache
            std::vector<int32_t> ids;
            bpe.encode(word, scratch, ids);
            ASSERT_EQ(ids, expected) << word;
        }
    }
    v.ignore_merges = true;
    ByteBpe::Scratch scratch(1);
    std::vector<int32_t> ids;
    ByteBpe(v, v.pieces).encode("aabbc", scratch, ids);
    ByteBpe(v, v.pieces).encode("x", scratch, ids);
    EXPECT_THAT(ids, ElementsAre(7));
}

}  // namespace
}  // namespace muster
