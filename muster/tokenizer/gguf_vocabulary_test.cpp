// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <functional>

#include "muster/checkpoint/gguf.h"
#include "muster/core/error.h"
#include "muster/tokenizer/test_vocabulary.h"

namespace muster {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

class GgufVocabulary : public testing::Test {
  protected:
    ~GgufVocabulary() override { std::filesystem::remove(path_); }

    Tokenizer reread(const GgufWriter& writer) {
        writer.write(path_);
        return Tokenizer::from_gguf(GgufFile(path_));
    }

    std::filesystem::path path_ = std::filesystem::path(testing::TempDir()) /
                                  ("vocabulary-" + std::to_string(::getpid()) + ".gguf");
};

TEST_F(GgufVocabulary, RoundTrip) {
    Vocabulary v = test::small_vocabulary();
    for (const bool flag : {false, true}) {
        v.add_bos = flag;
        v.add_space_prefix = !flag;
        GgufWriter writer;
        write_vocabulary(v, writer);
        const Tokenizer tokenizer = reread(writer);
        const Vocabulary& w = tokenizer.vocabulary();
        EXPECT_EQ(w.pieces, v.pieces);
        EXPECT_EQ(w.scores, v.scores);
        EXPECT_EQ(w.types, v.types);
        EXPECT_EQ(w.bos, 1);
        EXPECT_EQ(w.eos, 2);
        EXPECT_EQ(w.unk, 0);
        EXPECT_EQ(w.add_bos, flag);
        EXPECT_EQ(w.add_space_prefix, !flag);
        EXPECT_EQ(tokenizer.encode(test::kText), Tokenizer(v).encode(test::kText));
    }
}

/// The keys of a small vocabulary, without one of them, so that a test can put its own.
GgufWriter without(std::string_view left_out) {
    const Vocabulary& v = test::small_vocabulary();
    GgufWriter writer;
    const auto wanted = [&](std::string_view key) { return key != left_out; };
    if (wanted("model")) writer.set_string("tokenizer.ggml.model", "llama");
    if (wanted("tokens")) writer.set_strings("tokenizer.ggml.tokens", v.pieces);
    if (wanted("scores")) writer.set_f32s("tokenizer.ggml.scores", v.scores);
    if (wanted("token_type")) {
        std::vector<int32_t> types;
        for (const TokenType type : v.types) types.push_back(static_cast<int32_t>(type));
        writer.set_i32s("tokenizer.ggml.token_type", types);
    }
    return writer;
}

TEST_F(GgufVocabulary, AbsentKeysMeanWhatLlamaCppTakesThemFor) {
    const Tokenizer tokenizer = reread(without(""));
    const Vocabulary& v = tokenizer.vocabulary();
    EXPECT_EQ(v.bos, -1);
    EXPECT_EQ(v.eos, -1);
    EXPECT_EQ(v.unk, 0);
    EXPECT_TRUE(v.add_bos);
    EXPECT_TRUE(v.add_space_prefix);
}

TEST_F(GgufVocabulary, EachBadKeyIsNamed) {
    struct Case {
        std::string key;
        std::string part;
        std::function<void(GgufWriter&, const std::string&)> put;
    };
    const auto nothing = [](GgufWriter&, const std::string&) {};
    const std::vector<Case> cases = {
        {"model", "", nothing},
        {"tokens", "", nothing},
        {"scores", "", nothing},
        {"token_type", "", nothing},
        {"model", "bert", [](auto& w, auto& k) { w.set_string(k, "bert"); }},
        {"model", "", [](auto& w, auto& k) { w.set_u32(k, 1); }},
        {"tokens", "", [](auto& w, auto& k) { w.set_strings(k, {}); }},
        {"tokens", "repeated",
         [](auto& w, auto& k) {
             w.set_strings(k,
                           std::vector<std::string>(test::small_vocabulary().pieces.size(), "x"));
         }},
        {"scores", "2 values",
         [](auto& w, auto& k) {
             w.set_f32s(k, {0, 1});
         }},
        {"token_type", "1 values", [](auto& w, auto& k) { w.set_i32s(k, {1}); }},
        {"token_type", "token 0 is 9",
         [](auto& w, auto& k) {
             w.set_i32s(k, std::vector<int32_t>(test::small_vocabulary().pieces.size(), 9));
         }},
        {"bos_token_id", "", [](auto& w, auto& k) { w.set_u32(k, 100000); }},
        {"eos_token_id", "", [](auto& w, auto& k) { w.set_string(k, "2"); }},
        {"unknown_token_id", "", [](auto& w, auto& k) { w.set_u32(k, ~0U); }},
        {"add_bos_token", "", [](auto& w, auto& k) { w.set_u32(k, 1); }},
        {"add_space_prefix", "", [](auto& w, auto& k) { w.set_string(k, "yes"); }},
    };
    for (const Case& c : cases) {
        GgufWriter writer = without(c.key);
        const std::string key = "tokenizer.ggml." + c.key;
        c.put(writer, key);
        EXPECT_THAT([&] { reread(writer); },
                    ThrowsMessage<Error>(testing::AllOf(HasSubstr(key), HasSubstr(c.part))))
            << c.key;
    }
}

}  // namespace
}  // namespace muster
