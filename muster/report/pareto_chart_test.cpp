// SPDX-License-Identifier: Apache-2.0
#include "muster/report/pareto_chart.h"

#include <gmock/gmock.h>

#include "muster/core/atomic_file.h"
#include "muster/core/test_directory.h"
#include "muster/report/test_browser.h"
#include "muster/report/testing.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

size_t count(const std::string& text, std::string_view part) {
    size_t n = 0;
    for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
    return n;
}

TEST(ParetoFront, HoldsWhatNothingBeats) {
    EXPECT_THAT(pareto_front({1, 2, 3, 2}, {3, 2, 1, 2.5}), ElementsAre(true, true, true, false));
    EXPECT_THAT(pareto_front({1, 1}, {1, 1}), ElementsAre(true, true)) << "equals both stand";
    EXPECT_THAT(pareto_front({1, 1}, {1, 2}), ElementsAre(true, false));
    EXPECT_THAT(pareto_front({}, {}), ElementsAre());
}

TEST(ParetoChart, DrawsEveryPolicyTwice) {
    const std::string svg = pareto_svg(testing::three_policies());
    EXPECT_EQ(count(svg, "<circle"), 6u);
    EXPECT_EQ(count(svg, "class=\"dominated\""), 2u) << "more experts and worse";
    EXPECT_EQ(count(svg, "class=\"error\""), 4u) << "the first has no difference to itself";
    EXPECT_EQ(count(svg, "class=\"front\""), 2u);
    EXPECT_THAT(svg, HasSubstr("bad&lt;&amp;"));
    EXPECT_THAT(svg, HasSubstr("+22.14 % perplexity"));
    EXPECT_THAT(svg, Not(HasSubstr("nan")));
    EXPECT_THAT(svg, Not(HasSubstr("inf")));
}

TEST(ParetoChart, OnePolicyOrNoSpreadDrawsToo) {
    EvaluationResult result = testing::three_policies();
    result.policies.resize(1);
    const double infinity = std::numeric_limits<double>::infinity();
    result.policies[0].difference = {0, -infinity, infinity};
    const std::string svg = pareto_svg(result);
    EXPECT_EQ(count(svg, "<circle"), 2u);
    EXPECT_THAT(svg, Not(HasSubstr("nan")));
    EXPECT_THAT(svg, Not(HasSubstr("inf")));
}

TEST(ParetoChart, StandsAloneInABrowser) {
    const TemporaryDirectory directory;
    testing::Browser browser;
    write_file(directory / "c.svg", pareto_svg_file(testing::three_policies()));
    write_file(directory / "c.html", pareto_html(testing::three_policies(), "a < b"));
    for (const char* name : {"c.svg", "c.html"}) {
        const std::string dom = browser.dom(directory / name);
        EXPECT_EQ(count(dom, "<circle"), 6u) << name;
        EXPECT_THAT(dom, Not(HasSubstr("parsererror"))) << name;
        browser.screenshot(directory / name, directory / "c.png");
        EXPECT_GT(std::filesystem::file_size(directory / "c.png"), 5000u) << name;
    }
}

}  // namespace
}  // namespace muster
