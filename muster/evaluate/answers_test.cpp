// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/answers.h"

#include <gtest/gtest.h>

#include <vector>

namespace muster {
namespace {

using Texts = std::vector<std::string>;

TEST(Answers, AreNormalisedAsInThePublishedEvaluation) {
    EXPECT_EQ(normalized_answer("  The Quick-Brown, \"Fox\"!\n"), "quick brown fox");
    EXPECT_EQ(normalized_answer("An apple a day; theatre and another"),
              "apple day theatre and another");
    EXPECT_EQ(normalized_answer("snake_case\xC2\xA0\xE2\x80\x98quoted\xE2\x80\x99"),
              "snake case quoted");
    EXPECT_EQ(normalized_answer("\xC3\x89T\xC3\x89"), "\xC3\xA9t\xC3\xA9");
    EXPECT_EQ(normalized_answer("the a an ..."), "");
    EXPECT_EQ(normalized_answer("bad \xFF byte"), "bad \xEF\xBF\xBD byte");
}

TEST(Answers, MatchAnyOfTheRightOnes) {
    const Texts right{"Mount Everest", "everest"};
    EXPECT_TRUE(exact_match("the Everest.", right));
    EXPECT_FALSE(exact_match("Mount", right));
    EXPECT_FALSE(exact_match("x", Texts{}));
}

TEST(Answers, F1CountsCommonWords) {
    // Two of three words right, two of two found: p = 2/3, r = 1.
    EXPECT_DOUBLE_EQ(answer_f1("mount everest nepal", Texts{"Mount Everest"}), 0.8);
    // A word counts as often as it stands in both: p = 1/3, r = 1/2.
    EXPECT_DOUBLE_EQ(answer_f1("new new new", Texts{"New York"}), 0.4);
    EXPECT_DOUBLE_EQ(answer_f1("york", Texts{"London", "New York", "York!"}), 1);
    EXPECT_EQ(answer_f1("nothing", Texts{"New York"}), 0);
    EXPECT_EQ(answer_f1("", Texts{"the"}), 0);
}

}  // namespace
}  // namespace muster
