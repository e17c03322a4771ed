// SPDX-License-Identifier: Apache-2.0
#include "muster/generate/utf8_stream.h"

#include <gtest/gtest.h>

namespace muster {
namespace {

TEST(Utf8Stream, HoldsBackUnfinishedCharacters) {
    const std::string text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";  // a é € 😀 z
    for (size_t step = 1; step <= text.size(); ++step) {
        Utf8Stream stream;
        std::string all;
        for (size_t i = 0; i < text.size(); i += step) {
            const std::string piece = stream.push(text.substr(i, step));
            if (!piece.empty()) {
                EXPECT_NE(static_cast<unsigned char>(piece[0]) & 0xc0, 0x80);
            }
            all += piece;
        }
        EXPECT_EQ(all, text) << step;
        EXPECT_EQ(stream.flush(), "");
    }
}

TEST(Utf8Stream, PassesWhatIsNoUtf8) {
    Utf8Stream stream;
    EXPECT_EQ(stream.push("\x80\xFFz"), "\x80\xFFz");
    EXPECT_EQ(stream.push("\xC0"), "\xC0");  // starts nothing
    EXPECT_EQ(stream.push("\xE2"), "");
    EXPECT_EQ(stream.push("x"), "\xE2x");  // the character will not be finished
    EXPECT_EQ(stream.push("\xF0\x9F"), "");
    EXPECT_EQ(stream.flush(), "\xF0\x9F");
    EXPECT_EQ(stream.push("\x80\x80\x80\x80"), "\x80\x80\x80\x80");
}

}  // namespace
}  // namespace muster
