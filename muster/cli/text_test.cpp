// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/text.h"

#include <gtest/gtest.h>

#include <limits>

#include "muster/cli/progress_bar.h"
#include "muster/cli/table.h"

namespace muster::cli {
namespace {

TEST(Text, DisplayWidth) {
    EXPECT_EQ(display_width("abc"), 3);
    EXPECT_EQ(display_width("─é"), 2);
    EXPECT_EQ(display_width("e\u0301"), 1);     // combining accent
    EXPECT_EQ(display_width("漢字"), 4);        // wide
    EXPECT_EQ(display_width("\U0001F600"), 2);  // emoji
    EXPECT_EQ(display_width("a\nb"), 2);        // control characters take nothing
    EXPECT_EQ(display_width("\xFF"), 1);        // shown as a replacement character
}

TEST(Text, SignificantDigits) {
    EXPECT_EQ(significant(0), "0");
    EXPECT_EQ(significant(1234.4), "1230");
    EXPECT_EQ(significant(12.34), "12.3");
    EXPECT_EQ(significant(9.996), "10.0");
    EXPECT_EQ(significant(0.012345), "0.0123");
    EXPECT_EQ(significant(-2.5, 2), "-2.5");
    EXPECT_EQ(significant(1, 4), "1.000");
    EXPECT_EQ(significant(std::numeric_limits<double>::quiet_NaN()), "-");
    EXPECT_EQ(significant(std::numeric_limits<double>::infinity()), "-");
}

TEST(Text, Scales) {
    EXPECT_EQ(count_text(0), "0");
    EXPECT_EQ(count_text(999), "999");
    EXPECT_EQ(count_text(999.7), "1.00 k");
    EXPECT_EQ(count_text(13'100'000), "13.1 M");
    EXPECT_EQ(bytes_text(512), "512 B");
    EXPECT_EQ(bytes_text(1.2e9), "1.20 GB");
    EXPECT_EQ(clock_text(5), "0:05");
    EXPECT_EQ(clock_text(3723), "1:02:03");
    EXPECT_EQ(interval_text({0.5, -0.25, 1}), "+0.5000 [-0.2500, +1.0000]");
    EXPECT_EQ(plural(1, "token") + plural(2, "token"), "1 token2 tokens");
}

TEST(Table, AlignsByTerminalColumns) {
    Table table({{"name", Table::Align::left}, {"n"}});
    table.row({"漢字x", "1"});
    table.row({"é", "100"});
    EXPECT_EQ(table.render(1),
              " name     n\n"
              " ─────  ───\n"
              " 漢字x    1\n"
              " é      100\n");
}

TEST(Table, NoTrailingSpaces) {
    Table table({{"a", Table::Align::left}, {"long title", Table::Align::left}});
    table.row({"x", ""});
    EXPECT_EQ(table.render(), "a  long title\n─  ──────────\nx\n");
}

TEST(Progress, LineFitsItsWidth) {
    const std::string line = ProgressBar::line("reading", 25, 100, 5, 80);
    EXPECT_NE(line.find(" 25 %"), std::string::npos) << line;
    EXPECT_NE(line.find("5.00/s, 0:15 left"), std::string::npos) << line;
    for (const int columns : {20, 40, 60, 80, 200})
        EXPECT_LE(display_width(ProgressBar::line("reading", 25, 100, 5, columns)),
                  std::max(columns, 38));
    EXPECT_NE(ProgressBar::line("reading", 25, 0, 5, 80).find("25, 5.00/s"), std::string::npos);
}

}  // namespace
}  // namespace muster::cli
