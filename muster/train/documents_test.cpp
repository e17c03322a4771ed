// SPDX-License-Identifier: Apache-2.0
#include "muster/train/documents.h"

#include <gmock/gmock.h>

#include <set>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/test_directory.h"
#include "muster/train/test_vocabulary.h"

namespace muster::train {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::ThrowsMessage;

class Documents : public testing::Test {
  protected:
    fs::path put(const std::string& name, const std::string& text) {
        write_file(directory_ / name, text);
        return directory_ / name;
    }
    static Tokenizer bytes_tokenizer() { return Tokenizer(bytes_vocabulary()); }
    TemporaryDirectory directory_;
};

TEST_F(Documents, ReadsJsonLinesAndPlainText) {
    const fs::path jsonl =
        put("a.jsonl", "{\"domain\": \"law\", \"text\": \"one\"}\n\n{\"text\": \"two\"}\n");
    const fs::path plain = put("novel.txt", "three\nfour");
    std::vector<std::string> seen;
    for_each_document({jsonl, plain},
                      [&](Document&& d) { seen.push_back(d.domain + ":" + d.text); });
    EXPECT_THAT(seen, testing::ElementsAre("law:one", "a:two", "novel:three\nfour"));
}

TEST_F(Documents, NamesTheBadLine) {
    const fs::path bad = put("b.jsonl", "{\"text\": \"one\"}\nnot json\n");
    EXPECT_THAT([&] { for_each_document({bad}, [](Document&&) {}); },
                ThrowsMessage<Error>(HasSubstr("b.jsonl:2")));
    const fs::path missing = put("c.jsonl", "{\"words\": \"one\"}\n");
    EXPECT_THAT([&] { for_each_document({missing}, [](Document&&) {}); },
                ThrowsMessage<Error>(HasSubstr("has no \"text\"")));
    EXPECT_THROW(for_each_document({directory_ / "none.txt"}, [](Document&&) {}), Error);
}

TEST_F(Documents, TokenFileRoundTrip) {
    const fs::path source =
        put("a.jsonl",
            "{\"domain\": \"odd\", \"text\": \"abc\"}\n{\"domain\": \"even\", \"text\": \"\"}\n"
            "{\"domain\": \"odd\", \"text\": \"z\"}\n");
    const fs::path path = directory_ / "a.tokens";
    write_token_file(path, {{source}, nullptr}, bytes_tokenizer(), nullptr);
    const TokenFile file(path, 259);
    EXPECT_EQ(file.documents(), 3);
    EXPECT_THAT(file.domains(), testing::ElementsAre("odd", "even"));
    EXPECT_THAT(file.document(0), testing::ElementsAre(1, 3 + 'a', 3 + 'b', 3 + 'c', 2));
    EXPECT_THAT(file.document(1), testing::ElementsAre(1, 2));
    EXPECT_THAT(file.document(2), testing::ElementsAre(1, 3 + 'z', 2));
    EXPECT_EQ(file.domain_of(1), 1);
    EXPECT_THROW(TokenFile(path, 300), Error);
    // Cut anywhere, it is refused.
    const std::string whole = read_file(path);
    for (size_t n = 0; n < whole.size(); ++n) {
        EXPECT_THROW(TokenFile(put("cut.tokens", whole.substr(0, n)), 259), Error) << n;
    }
}

TEST_F(Documents, KeepChoosesDocuments) {
    const fs::path source =
        put("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n{\"text\": \"c\"}\n");
    const fs::path path = directory_ / "a.tokens";
    write_token_file(path, {{source}, [](int64_t i) { return i == 1; }}, bytes_tokenizer(),
                     nullptr);
    EXPECT_THAT(TokenFile(path, 259).document(0), testing::ElementsAre(1, 3 + 'b', 2));
    EXPECT_THROW(write_token_file(path, {{source}, [](int64_t) { return false; }},
                                  bytes_tokenizer(), nullptr),
                 Error);
}

TEST_F(Documents, StopsWhenProgressAsksTo) {
    std::string lines;
    for (int i = 0; i < 300; ++i) lines += "{\"text\": \"a\"}\n";
    const fs::path source = put("a.jsonl", lines), path = directory_ / "a.tokens";
    const Progress stop = [](std::string_view, int64_t, int64_t) { return false; };
    EXPECT_THAT(
        [&] {
            write_token_file(path, {{source}, nullptr}, bytes_tokenizer(), stop);
        },
        ThrowsMessage<Error>(HasSubstr("stopped while tokenising")));
    EXPECT_FALSE(fs::exists(path));
}

TEST(WindowSampler, EveryEpochCoversEachWindowOnce) {
    std::vector<uint16_t> tokens(1000);
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<uint16_t>(i);
    WindowSampler sampler(tokens, 16, 3);
    std::vector<std::vector<uint16_t>> orders(2);
    for (int64_t p = 0; p < 2 * sampler.windows(); ++p) {
        const auto window = sampler.window(p);
        ASSERT_EQ(window.size(), 17u);
        for (size_t i = 1; i < window.size(); ++i) ASSERT_EQ(window[i], window[0] + i);
        orders[static_cast<size_t>(p / sampler.windows())].push_back(window[0]);
    }
    for (const auto& order : orders) {
        const std::set<uint16_t> starts(order.begin(), order.end());
        EXPECT_EQ(static_cast<int64_t>(starts.size()), sampler.windows());
    }
    EXPECT_NE(orders[0], orders[1]);
    // The position is its whole state.
    WindowSampler again(tokens, 16, 3);
    EXPECT_EQ(again.window(70)[0], sampler.window(70)[0]);
    EXPECT_THROW(WindowSampler(std::span<const uint16_t>(tokens).first(10), 16, 3), Error);
}

}  // namespace
}  // namespace muster::train
