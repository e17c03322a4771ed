// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/utf8.h"

#include <gmock/gmock.h>

namespace muster {
namespace {

TEST(Utf8, EveryCodePointIsReadAsItWasWritten) {
    for (uint32_t c = 0; c < 0x110000; ++c) {
        std::string text;
        append_utf8(c, text);
        const Utf8Step step = next_utf8(text);
        if (c >= 0xD800 && c < 0xE000) {
            EXPECT_FALSE(step.valid) << c;
        } else if (!step.valid || step.code_point != c || step.bytes != text.size()) {
            FAIL() << c;
        }
    }
}

// Tables 3-8 to 3-11 of the Unicode Standard 15, section 3.9.
TEST(Utf8, OneReplacementPerMaximalSubpart) {
    const std::string r = "\uFFFD";
    EXPECT_EQ(to_valid_utf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
              r + r + r + r + r + r + r + r + "A");
    EXPECT_EQ(to_valid_utf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"),
              r + r + r + r + r + r + r + r + "A");
    EXPECT_EQ(to_valid_utf8("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
              r + r + r + r + r + "A" + r + r + "B");
    EXPECT_EQ(to_valid_utf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), r + r + r + r + "A");
}

TEST(Utf8, ValidTextStaysAndEndsAreChecked) {
    EXPECT_EQ(to_valid_utf8("aé天😀"), "aé天😀");
    EXPECT_TRUE(is_valid_utf8(""));
    EXPECT_TRUE(is_valid_utf8(std::string_view("a\0b", 3)));
    EXPECT_FALSE(is_valid_utf8("\xF0\x9F\x98"));
    EXPECT_EQ(to_valid_utf8("x\xF0\x9F\x98"), "x\uFFFD");
}

}  // namespace
}  // namespace muster
