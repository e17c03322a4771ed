// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "muster/checkpoint/weight_map.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/test_directory.h"
#include "muster/tokenizer/byte_level.h"
#include "muster/tokenizer/chat_template.h"
#include "muster/tokenizer/pre_tokenizer.h"
#include "muster/tokenizer/tokenizer.h"

namespace muster {
namespace {

using testing::ElementsAre;

/// Bytes 0 to 255 have the ids 0 to 255; then "ab" and " ab".
std::string json_text(const std::string& merges = R"(["a b", ["Ġ", "ab"]])") {
    std::string vocab;
    for (int b = 0; b < 256; ++b) {
        std::string piece = byte_level_piece(std::string(1, static_cast<char>(b)));
        if (piece == "\"" || piece == "\\") piece.insert(0, "\\");
        vocab += "\"" + piece + "\":" + std::to_string(b) + ",";
    }
    return R"({"added_tokens":[
        {"id":258,"content":"<end>","special":true,"lstrip":false,"rstrip":true},
        {"id":260,"content":"<tool>","special":false}],
        "normalizer":{"type":"NFC"},
        "pre_tokenizer":{"type":"Sequence","pretokenizers":[
            {"type":"Split","pattern":{"Regex":"\\s?\\p{L}+"},"behavior":"Isolated"},
            {"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]},
        "model":{"type":"BPE","vocab":{)" +
           vocab + R"("ab":256,"Ġab":257},"merges":)" + merges + "}}";
}

TEST(HuggingFace, ADirectoryBecomesKeysThatMakeTheSameTokenizer) {
    const TemporaryDirectory directory;
    write_file(directory / "tokenizer.json", json_text());
    write_file(directory / "tokenizer_config.json",
               R"({"eos_token":{"content":"<end>"},"chat_template":[
                   {"name":"default","template":"A"},{"name":"rag","template":"B"}]})");
    WeightMap map("test");
    read_huggingface_tokenizer(directory.path(), map, 300);
    EXPECT_EQ(map.string("tokenizer.ggml.pre"), "muster");
    const Tokenizer tokenizer = Tokenizer::from_gguf(map);
    EXPECT_EQ(tokenizer.vocab_size(), 300);
    EXPECT_EQ(tokenizer.vocabulary().eos, 258);
    EXPECT_TRUE(tokenizer.ends_text(258));
    EXPECT_TRUE(tokenizer.vocabulary().nfc);
    EXPECT_THAT(tokenizer.encode("ab ab<end> a"),
                ElementsAre(256, 257, '<', 'e', 'n', 'd', '>', ' ', 'a'));
    EXPECT_THAT(tokenizer.encode("ab<end> a<tool>", EncodeOptions{true, true}),
                ElementsAre(256, 258, 'a', 260));
    EXPECT_THAT(tokenizer.encode("<tool>\xFF"), ElementsAre(260, 0xEF, 0xBF, 0xBD));
    EXPECT_EQ(tokenizer.decode(tokenizer.encode("ab 天 e\u0301")), "ab 天 \u00e9");
    EXPECT_EQ(chat_templates_of(map).at("rag"), "B");
}

TEST(HuggingFace, AByteLevelVocabularyIsWrittenAsItWasRead) {
    Vocabulary v = read_tokenizer_json(json_text(), "t");
    v.splits.push_back({R"(\p{N})", SplitRule::Keep::matches});
    v.bos = 258;
    v.add_bos = true;
    const Vocabulary again = read_tokenizer_json(to_tokenizer_json(v), "t");
    EXPECT_EQ(again.pieces, v.pieces);
    EXPECT_EQ(again.types, v.types);
    ASSERT_EQ(again.merges.size(), v.merges.size());
    for (size_t i = 0; i < v.merges.size(); ++i) {
        EXPECT_EQ(again.merges[i].left, v.merges[i].left);
        EXPECT_EQ(again.merges[i].merged, v.merges[i].merged);
    }
    ASSERT_EQ(again.splits.size(), 2U);
    EXPECT_EQ(again.splits[0].pattern, v.splits[0].pattern);
    EXPECT_EQ(again.splits[1].keep, SplitRule::Keep::matches);
    ASSERT_EQ(again.added.size(), 1U);
    EXPECT_TRUE(again.added[0].rstrip);
    EXPECT_TRUE(again.nfc && again.add_bos);
    EXPECT_EQ(again.bos, 258);

    v.add_space_prefix = true;
    EXPECT_THROW(to_tokenizer_json(v), Error);
    v.splits = {};
    v.splits.push_back({std::string(named_split("gpt-2")->patterns[0])});
    const Vocabulary spaced = read_tokenizer_json(to_tokenizer_json(v), "t");
    EXPECT_TRUE(spaced.add_space_prefix);
    EXPECT_EQ(spaced.splits[0].pattern, v.splits[0].pattern);
}

TEST(HuggingFace, DamageIsAnError) {
    const std::string good = json_text();
    EXPECT_NO_THROW(Tokenizer(read_tokenizer_json(good, "t")));
    for (size_t cut = 0; cut < good.size(); cut += 7) {
        EXPECT_THROW(read_tokenizer_json(good.substr(0, cut), "t"), Error);
    }
    for (const char* merges : {R"(["a"])", R"(["a c"])", "[1]", R"([["a"]])", "{}", "null"}) {
        EXPECT_THROW(read_tokenizer_json(json_text(merges), "t"), Error) << merges;
    }
    for (const char* id : {"-1", "1e9", "\"x\"", "4000000", "0", "1.5"}) {
        std::string bad = good;
        bad.replace(bad.find("\"id\":258"), 8, std::string("\"id\":") + id);
        EXPECT_THROW(read_tokenizer_json(bad, "t"), Error) << id;
    }
    EXPECT_THROW(read_tokenizer_json(std::string(100000, '['), "t"), Error);
}

}  // namespace
}  // namespace muster
