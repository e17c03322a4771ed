// SPDX-License-Identifier: Apache-2.0
#include "muster/checkpoint/json_value.h"

#include <gmock/gmock.h>

#include "muster/core/error.h"

namespace muster {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

void expect_refused(const std::string& text, const std::string& part,
                    const JsonLimits& limits = {}) {
    EXPECT_THAT([&] { JsonValue::parse(text, "c", limits); }, ThrowsMessage<Error>(HasSubstr(part)))
        << text;
}

TEST(JsonValue, TypedAccess) {
    const JsonValue v = JsonValue::parse(
        R"({"i": -3, "whole": 4096.0, "r": 0.5, "b": true, "n": null, "s": "x",
            "a": ["p", "q"], "o": {"i": 7}})",
        "c");
    EXPECT_EQ(v.integer("c", "i", -5, 5), -3);
    EXPECT_EQ(v.integer("c", "whole", 0, 5000), 4096);
    EXPECT_EQ(v.real("c", "r"), 0.5);
    EXPECT_EQ(v.real("c", "i"), -3.0);
    EXPECT_TRUE(v.boolean_or("c", "b", false));
    EXPECT_FALSE(v.has("n"));
    EXPECT_EQ(v.integer_or("c", "n", 0, 9, 5), 5);
    EXPECT_EQ(v.string("c", "s"), "x");
    EXPECT_THAT(v.strings("c", "a"), ElementsAre("p", "q"));
    EXPECT_EQ(v.find("o")->integer("c", "i", 0, 9), 7);
    EXPECT_THAT([&] { v.integer("c", "i", 0, 5); },
                ThrowsMessage<Error>("[c] key 'i' is -3, expected 0 to 5"));
    EXPECT_THAT([&] { v.integer("c", "r", 0, 5); },
                ThrowsMessage<Error>("[c] key 'r' is no whole number"));
    EXPECT_THAT([&] { v.string("c", "n"); },
                ThrowsMessage<Error>("[c] has no key 'n', expected a string"));
    EXPECT_THAT([&] { v.strings("c", "o"); }, ThrowsMessage<Error>(HasSubstr("array of strings")));
}

TEST(JsonValue, RefusesWhatIsDamagedRepeatedOrTooLarge) {
    expect_refused("{", "is no JSON at its byte");
    expect_refused("[NaN]", "is no JSON at its byte");
    expect_refused(R"({"a": 1, "a": 2})", "has the key 'a' twice");
    expect_refused(std::string(1000, '['), "nests deeper than 32");
    expect_refused("[1,2,3]", "has more than 3 values", {.values = 3});
    expect_refused("[1,2,3]", "has 7 bytes, expected at most 6", {.bytes = 6});
}

}  // namespace
}  // namespace muster
