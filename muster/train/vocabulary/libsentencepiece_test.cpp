// SPDX-License-Identifier: Apache-2.0
// The encoder beside libsentencepiece, which is an independent implementation of the same thing.
#include <gmock/gmock.h>
#include <sentencepiece_processor.h>

#include <filesystem>

#include "muster/core/atomic_file.h"
#include "muster/tokenizer/test_vocabulary.h"

namespace muster {
namespace {

class Oracle {
  public:
    explicit Oracle(const Vocabulary& v) {
        const auto status = processor_.LoadFromSerializedProto(to_sentencepiece(v));
        EXPECT_TRUE(status.ok()) << status.ToString();
    }
    std::vector<int32_t> encode(const std::string& text) const {
        return processor_.EncodeAsIds(text);
    }
    std::string decode(const std::vector<int32_t>& ids) const { return processor_.DecodeIds(ids); }

  private:
    sentencepiece::SentencePieceProcessor processor_;
};

void expect_equal(const Tokenizer& tokenizer, const Oracle& oracle, const std::string& text) {
    EXPECT_EQ(tokenizer.encode(text, false), oracle.encode(text)) << text;
}

TEST(LibSentencePiece, SameIdsOnRandomTexts) {
    for (const bool prefix : {false, true}) {
        Vocabulary v = test::small_vocabulary();
        v.add_space_prefix = prefix;
        const Tokenizer tokenizer(v);
        const Oracle oracle(v);
        Random random(5);
        for (int i = 0; i < 300; ++i) {
            expect_equal(tokenizer, oracle, test::random_text(random, 60));
            expect_equal(tokenizer, oracle, test::random_pieces(v, random, 40));
            expect_equal(tokenizer, oracle, to_valid_utf8(test::random_bytes(random, 60)));
        }
        expect_equal(tokenizer, oracle, "");
        expect_equal(tokenizer, oracle, std::string("nul\0nul", 7));
        expect_equal(tokenizer, oracle, "<s> </s> <unk> <0x0A>");
    }
}

TEST(LibSentencePiece, SameIdsAndTextOnOurSources) {
    const Tokenizer tokenizer(test::small_vocabulary());
    const Oracle oracle(tokenizer.vocabulary());
    const std::filesystem::path folder = MUSTER_SOURCE_DIR "/muster/tokenizer";
    int files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        const std::string text = read_file(entry.path());
        if (text.find(kSpacePiece) != std::string::npos) continue;
        const auto ids = tokenizer.encode(text, false);
        EXPECT_EQ(ids, oracle.encode(text)) << entry.path();
        EXPECT_EQ(oracle.decode(ids), text) << entry.path();
        ++files;
    }
    EXPECT_GT(files, 5);
}

/// Any pieces over a tiny alphabet: overlapping, unreachable, of characters that are no pieces
/// themselves, with equal scores.
Vocabulary random_vocabulary(Random& random, bool bytes, bool user_defined) {
    const std::vector<std::string> alphabet = {"a", "b", "\u00e9", "\u2581", "\u5929"};
    Vocabulary v = test::special_pieces(bytes);
    test::add_piece(v, "\u2581", TokenType::normal, -50);
    const auto add = [&](const std::string& piece) {
        if (std::find(v.pieces.begin(), v.pieces.end(), piece) != v.pieces.end()) return;
        const bool user = user_defined && random.below(12) == 0;
        test::add_piece(v, piece, user ? TokenType::user_defined : TokenType::normal,
                        -static_cast<float>(random.below(20)));
    };
    for (size_t i = 0; i < alphabet.size(); ++i) {
        if (random.below(4) != 0) add(alphabet[i]);
    }
    for (int i = 0; i < 30; ++i) {
        std::string piece;
        for (uint64_t n = 2 + random.below(4); n > 0; --n) piece += alphabet[random.below(5)];
        add(piece);
    }
    return v;
}

TEST(LibSentencePiece, SameIdsWithAnyVocabulary) {
    const std::vector<std::string> alphabet = {"a", "b", "\u00e9", " ", "\u5929", "z"};
    Random random(9);
    for (int i = 0; i < 400; ++i) {
        Vocabulary v = random_vocabulary(random, i % 3 != 0, i % 2 != 0);
        const Tokenizer tokenizer(v);
        const Oracle oracle(v);
        for (int j = 0; j < 20; ++j) {
            std::string text;
            // Both shorter and longer than what the encoder merges by scanning.
            for (uint64_t n = random.below(j % 4 == 0 ? 200 : 20); n > 0; --n) {
                text += alphabet[random.below(random.below(8) == 0 ? 6 : 5)];
            }
            expect_equal(tokenizer, oracle, text);
            if (HasFailure()) return;
        }
    }
}

TEST(LibSentencePiece, UnusedPiecesGiveWayToTheirParts) {
    Vocabulary v = test::small_vocabulary();
    Random random(4);
    for (size_t id = 259; id < v.pieces.size(); id += 7) v.types[id] = TokenType::unused;
    const Tokenizer tokenizer(v);
    const Oracle oracle(v);
    expect_equal(tokenizer, oracle, std::string(test::kText));
    for (int i = 0; i < 100; ++i) {
        expect_equal(tokenizer, oracle, test::random_pieces(test::small_vocabulary(), random, 3));
    }
}

}  // namespace
}  // namespace muster
