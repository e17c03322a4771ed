// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/test_directory.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Csv : public ::testing::Test {
  protected:
    CsvTable read(const std::string& content) {
        write_file(directory_ / "x.csv", content);
        return read_csv(directory_ / "x.csv");
    }
    std::string refusal(const std::string& content) {
        try {
            read(content);
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    }
    TemporaryDirectory directory_;
};

TEST_F(Csv, QuotedFieldsHoldCommasQuotesAndLines) {
    const CsvTable t = read(
        "\xEF\xBB\xBF,name,text\r\n"
        "0,plain, spaces stay \r\n"
        "1,\"a, b\",\"she said \"\"no\"\"\nand\r\nleft\"\r\n"
        "\r\n"
        "2,,\"\"");
    EXPECT_THAT(t.columns, ElementsAre("", "name", "text"));
    ASSERT_EQ(t.rows.size(), 3u);
    EXPECT_THAT(t.rows[0].fields, ElementsAre("0", "plain", " spaces stay "));
    EXPECT_THAT(t.rows[1].fields, ElementsAre("1", "a, b", "she said \"no\"\nand\r\nleft"));
    EXPECT_THAT(t.rows[2].fields, ElementsAre("2", "", ""));
    EXPECT_EQ(t.rows[1].line, 3);
    EXPECT_EQ(t.rows[2].line, 7) << "after a field of three lines and an empty line";
    EXPECT_THAT(t.where(t.rows[1]), HasSubstr("x.csv:3"));
    EXPECT_EQ(t.column("text"), 2);
    EXPECT_EQ(t.find("other"), -1);
    EXPECT_THROW(t.column("other"), Error);
}

TEST_F(Csv, DamageIsRefusedWithItsLine) {
    EXPECT_THAT(refusal(""), HasSubstr("empty"));
    EXPECT_THAT(refusal("a,b\n1,2\n3\n"), HasSubstr("x.csv:3"));
    EXPECT_THAT(refusal("a,b\n1,2\n3\n"), HasSubstr("expected 2"));
    EXPECT_THAT(refusal("a,b\n1,2\n3,wro\"ng\n"), HasSubstr("x.csv:3"));
    EXPECT_THAT(refusal("a,b\n1,\"2\" x\n"), HasSubstr("x.csv:2"));
    EXPECT_THAT(refusal("a,b\n1,2\n3,\"no end\nof it\n\n"), HasSubstr("x.csv:3"));
    EXPECT_THROW(read_csv(directory_ / "missing.csv"), Error);
}

}  // namespace
}  // namespace muster
