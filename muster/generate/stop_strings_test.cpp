// SPDX-License-Identifier: Apache-2.0
#include "muster/generate/stop_strings.h"

#include <gtest/gtest.h>

namespace muster {
namespace {

TEST(StopStrings, ShowsTextThatCannotBecomeOne) {
    StopStrings stops({"\nUser:", "###"});
    EXPECT_EQ(stops.push("Hello"), "Hello");
    EXPECT_EQ(stops.push("\n"), "");
    EXPECT_EQ(stops.push("Us"), "");
    EXPECT_EQ(stops.push("e it. #"), "\nUse it. ");
    EXPECT_EQ(stops.push("#"), "");
    EXPECT_FALSE(stops.met());
    EXPECT_EQ(stops.flush(), "##");
    EXPECT_EQ(stops.flush(), "");
}

TEST(StopStrings, EndsBeforeTheFirst) {
    StopStrings stops({"cd", "abcd", ""});
    EXPECT_EQ(stops.push("xab"), "x");
    EXPECT_EQ(stops.push("cdef"), "");
    EXPECT_TRUE(stops.met());
    EXPECT_EQ(stops.push("more"), "");
    EXPECT_EQ(stops.flush(), "");
}

TEST(StopStrings, FindsOneCutAnywhere) {
    const std::string text = "one two STOP three";
    for (size_t cut = 0; cut <= text.size(); ++cut) {
        StopStrings stops({"STOP"});
        std::string shown = stops.push(text.substr(0, cut));
        shown += stops.push(text.substr(cut));
        EXPECT_EQ(shown, "one two ") << cut;
    }
}

TEST(StopStrings, WithoutAnyNothingIsHeld) {
    StopStrings stops({});
    EXPECT_EQ(stops.push("\n"), "\n");
}

}  // namespace
}  // namespace muster
