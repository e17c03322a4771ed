// SPDX-License-Identifier: Apache-2.0
#include "muster/train/vocabulary/vocabulary.h"

#include <gmock/gmock.h>

#include <set>
#include <string>
#include <vector>

#include "muster/core/error.h"
#include "muster/core/random.h"
#include "muster/tokenizer/tokenizer.h"

namespace muster {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

/// Documents of made-up words, some more frequent than others, with indented lines and digits.
std::vector<std::string> documents(int count) {
    Random random(7);
    std::vector<std::string> words;
    for (int i = 0; i < 400; ++i) {
        std::string word;
        for (uint64_t n = 2 + random.below(6); n > 0; --n) {
            word += static_cast<char>('a' + random.below(20));
        }
        words.push_back(word);
    }
    std::vector<std::string> result;
    for (int d = 0; d < count; ++d) {
        std::string text;
        for (int i = 0; i < 200; ++i) {
            const double u = random.uniform();
            text += words[static_cast<size_t>(u * u * 400)];
            text += i % 11 == 0 ? "\n        " : i % 23 == 0 ? "\t2024 " : " ";
        }
        result.push_back(text);
    }
    return result;
}

std::string train(const std::vector<std::string>& texts, const VocabularyOptions& options) {
    const std::vector<std::string_view> views(texts.begin(), texts.end());
    return train_sentencepiece(views, options);
}

TEST(TrainVocabulary, MakesAModelThatTheTokenizerReads) {
    const auto texts = documents(40);
    const auto tokenizer = Tokenizer::from_sentencepiece(train(texts, {.vocab_size = 600}));
    const Vocabulary& v = tokenizer.vocabulary();
    EXPECT_EQ(v.size(), 600);
    EXPECT_EQ(v.unk, 0);
    EXPECT_EQ(v.bos, 1);
    EXPECT_EQ(v.eos, 2);
    EXPECT_EQ(v.pieces[3], "<0x00>");
    EXPECT_FALSE(v.add_space_prefix);
    for (const std::string& piece : v.pieces) {
        EXPECT_EQ(piece.find_first_of("\n\t "), std::string::npos) << piece;
        const bool digits = piece.find("20") != std::string::npos;
        EXPECT_FALSE(digits && piece[0] != '<') << piece;
    }
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(texts[0])), texts[0]);
    EXPECT_LT(tokenizer.encode(texts[0], false).size() * 2, texts[0].size());
    EXPECT_THAT(v.pieces, testing::Contains("\u2581\u2581\u2581\u2581"));
}

TEST(TrainVocabulary, SameTextsGiveTheSameBytesAndTheSeedChoosesTheSample) {
    const auto texts = documents(60);
    const VocabularyOptions sampled{.vocab_size = 500, .sample_bytes = 20000, .seed = 1};
    VocabularyOptions other = sampled;
    other.seed = 2;
    EXPECT_EQ(train(texts, sampled), train(texts, sampled));
    EXPECT_NE(train(texts, sampled), train(texts, other));
}

TEST(TrainVocabulary, AcceptsAnyBytes) {
    auto texts = documents(20);
    texts.push_back("\xff\xfe broken \xe2\x96");
    texts.push_back(std::string("nul\0inside", 10));
    texts.push_back("\u2581block\u2585block\u2581");
    texts.push_back("");
    const auto tokenizer =
        Tokenizer::from_sentencepiece(train(texts, {.vocab_size = 450, .character_coverage = 1.0}));
    EXPECT_EQ(tokenizer.vocab_size(), 450);
}

TEST(TrainVocabulary, NoTwoPiecesMakeASpecialToken) {
    auto texts = documents(10);
    for (int i = 0; i < 300; ++i) texts.push_back("</s> </span> <s> class <sub> <unk> links>\n");
    const auto tokenizer = Tokenizer::from_sentencepiece(train(texts, {.vocab_size = 420}));
    const Vocabulary& v = tokenizer.vocabulary();
    const std::set<std::string> pieces(v.pieces.begin(), v.pieces.end());
    EXPECT_EQ(v.size(), 420);
    for (const std::string special : {"<unk>", "<s>", "</s>"}) {
        for (size_t at = 1; at < special.size(); ++at) {
            EXPECT_FALSE(pieces.count(special.substr(0, at)) && pieces.count(special.substr(at)))
                << special << " at " << at;
        }
    }
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(texts.back())), texts.back());
}

TEST(TrainVocabulary, RefusesWhatCannotWork) {
    const auto texts = documents(2);
    const auto message = [](const std::vector<std::string>& t, const VocabularyOptions& o) {
        return [t, o] { train(t, o); };
    };
    EXPECT_THAT(message(texts, {.vocab_size = 259}), ThrowsMessage<Error>(HasSubstr("vocab_size")));
    EXPECT_THAT(message(texts, {.character_coverage = 0}),
                ThrowsMessage<Error>(HasSubstr("character_coverage")));
    EXPECT_THAT(message(texts, {.vocab_size = 100000}),
                ThrowsMessage<Error>(HasSubstr("value <=")));
    EXPECT_THAT(message({}, {}), ThrowsMessage<Error>(HasSubstr("no text")));
    EXPECT_THAT(message({"", "\n\n"}, {}), ThrowsMessage<Error>(HasSubstr("no text")));
    EXPECT_THAT(message({"a"}, {}), ThrowsMessage<Error>(HasSubstr("size too high")));
}

}  // namespace
}  // namespace muster
