// SPDX-License-Identifier: Apache-2.0
#include "muster/report/atlas_page.h"

#include <gmock/gmock.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/report/html_text.h"
#include "muster/report/test_browser.h"
#include "muster/report/testing.h"

namespace muster {
namespace {

using nlohmann::json;
using testing::AtlasShape;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::random_atlas;

AtlasPlan plan_of(const ExpertAtlas& atlas) {
    AtlasPlan plan{.name = "plan.json", .layers = {}, .dormant = {{1, 2, 0.25, 5.5, 40}}};
    for (size_t l = 0; l < atlas.layers.size(); ++l) {
        auto& layer = plan.layers.emplace_back(AtlasPlan::Layer{1.0 + double(l), 2, {}});
        layer->impacts.resize(static_cast<size_t>(atlas.layers[l].num_experts()));
        layer->impacts[0] = Interval{0.1, 0.05, 0.15};
        layer->impacts[2] = Interval{-0.2, -0.3, -0.1};
    }
    return plan;
}

/// A page whose errors show in the DOM, and that is steered by `script` once it is drawn.
std::string watched(std::string html, const std::string& script) {
    const std::string catcher =
        "<script>window.onerror=m=>{document.documentElement.dataset.error=m};document."
        "addEventListener('securitypolicyviolation',e=>{document.documentElement.dataset.error="
        "e.blockedURI});function press(at,...keys){for(const key of keys)at.dispatchEvent(new "
        "KeyboardEvent('keydown',{key,bubbles:true}))}</script>";
    html.insert(html.find("<title>"), catcher);
    return html + "<script>" + script + "</script>";
}

std::string attribute(const std::string& dom, const std::string& name) {
    const size_t at = dom.find(name + "=\"");
    if (at == dom.npos) return "";
    const size_t begin = at + name.size() + 2;
    return dom.substr(begin, dom.find('"', begin) - begin);
}

/// The DOM without its scripts.
std::string shown(std::string dom) {
    for (size_t at; (at = dom.find("<script")) != dom.npos;)
        dom.erase(at, dom.find("</script>", at) - at + 9);
    return dom;
}

TEST(HtmlText, EscapesAndFillsOnce) {
    EXPECT_EQ(escaped("a<b>&\"\x01\xFF"), "a&lt;b&gt;&amp;&quot;\xEF\xBF\xBD\xEF\xBF\xBD");
    EXPECT_EQ(fill_template("{{a}}-{{b}}-{{a}}", {{"a", "{{b}}"}, {"b", "2"}}), "{{b}}-2-{{b}}");
    EXPECT_EQ(fill_template("a {{ b", {}), "a {{ b");
}

TEST(AtlasPage, NeedsTokens) {
    EXPECT_THROW(atlas_html({ExpertAtlas{}, nullptr, nullptr, ""}), Error);
}

TEST(AtlasPage, DataIsSumsAndAFewNumbersPerToken) {
    const ExpertAtlas atlas = random_atlas({});
    const EvaluationResult result = testing::three_policies();
    const AtlasPlan plan = plan_of(atlas);
    const json d = json::parse(atlas_json({atlas, &result, &plan, "1"}));
    EXPECT_EQ(d.at("format"), "muster-atlas");
    EXPECT_EQ(d.at("tokens").at("count"), 600);
    EXPECT_EQ(d.at("tokens").at("layers").size(), 3u);
    const json& layer = d.at("layers")[2];
    EXPECT_EQ(layer.at("load").size(), 8u);
    EXPECT_EQ(layer.at("by_domain").size(), 3u);
    int64_t tokens = 0;
    for (const json& n : layer.at("histogram")) tokens += n.get<int64_t>();
    EXPECT_EQ(tokens, 600);
    EXPECT_GT(layer.at("specialisation").at("layer"),
              10 * layer.at("specialisation").at("chance").get<double>());
    EXPECT_LE(layer.at("pairs").size(), 20u);
    EXPECT_EQ(d.at("evaluation").at("policies").size(), 3u);
    EXPECT_EQ(d.at("plan").at("layers")[1].at("budget"), 2);
    EXPECT_TRUE(d.at("plan").at("layers")[1].at("impacts")[1].is_null());
}

TEST(AtlasPlan, ShowsWhatAPlanHolds) {
    ActivationPlan plan;
    plan.experts_per_token = 2;
    plan.layers.resize(2);  // the first is dense
    plan.layers[1].budget = 3;
    plan.layers[1].experts = {{{0.2, 0.1, 0.3}, 9, 4.5, true}, {}};
    const AtlasPlan shown = atlas_plan(plan, "p");
    ASSERT_EQ(shown.layers.size(), 2u);
    EXPECT_FALSE(shown.layers[0].has_value());
    EXPECT_EQ(shown.layers[1]->budget, 3);
    EXPECT_EQ(shown.layers[1]->baseline, 2);
    EXPECT_EQ(shown.layers[1]->impacts[0]->high, 0.3);
    EXPECT_FALSE(shown.layers[1]->impacts[1].has_value()) << "no evidence";
    ASSERT_EQ(shown.dormant.size(), 1u);
    EXPECT_EQ(shown.dormant[0].rank, 4.5);
    EXPECT_EQ(shown.dormant[0].tokens, 9);
}

TEST(AtlasPage, IsWholeAndHoldsNoForeignText) {
    const ExpertAtlas atlas = random_atlas({});
    const std::string html = atlas_html({atlas, nullptr, nullptr, "1.2"});
    EXPECT_THAT(html, Not(HasSubstr("{{")));
    EXPECT_THAT(html, HasSubstr("tiny &lt;b&gt;&amp;amp; &quot;quoted&quot;"));
    EXPECT_THAT(html, Not(HasSubstr("\"<script>\"")));
    EXPECT_THAT(html, Not(HasSubstr("https://")));
    EXPECT_THAT(html, Not(HasSubstr(" src=")));
    EXPECT_THAT(html, Not(HasSubstr("@import")));
}

TEST(AtlasPage, IsReadWithTheKeyboard) {
    const TemporaryDirectory directory;
    const ExpertAtlas atlas = random_atlas({});
    const EvaluationResult result = testing::three_policies();
    const AtlasPlan plan = plan_of(atlas);
    const std::string script =
        "const text=document.querySelector('.tokens');press(text,'ArrowRight','ArrowRight',"
        "'ArrowLeft','End','Home','ArrowRight');document.documentElement.dataset.first="
        "text.getAttribute('aria-activedescendant');press(text,'ArrowDown');"
        "for(const svg of document.querySelectorAll('figure svg[tabindex]'))"
        "press(svg,'ArrowRight','ArrowDown','End','Home','ArrowRight');"
        "for(const d of document.querySelectorAll('details'))d.open=true;";
    write_file(directory / "a.html", watched(atlas_html({atlas, &result, &plan, "1"}), script));
    testing::Browser browser;
    const std::string dom = shown(browser.dom(directory / "a.html"));
    EXPECT_EQ(attribute(dom, "data-error"), "");
    EXPECT_NE(attribute(dom, "data-ready"), "");
    EXPECT_EQ(attribute(dom, "data-first"), "token-1");
    const std::string below = attribute(dom, "aria-activedescendant");
    EXPECT_GT(std::stoi(below.substr(below.find('-') + 1)), 2) << "in the next line";
    EXPECT_THAT(dom, HasSubstr("aria-label=\"experts in layers 0: "));
    for (const char* id :
         {"reading", "layers", "difficulty", "load", "domains", "pairs", "policies", "plan"})
        EXPECT_THAT(dom, HasSubstr("<section id=\"" + std::string(id) + "\"")) << id;
    EXPECT_THAT(dom, HasSubstr("Layer 1: "));
    EXPECT_THAT(dom, HasSubstr("Layer 0, expert 1: "));
    EXPECT_THAT(dom, HasSubstr("Layer 2, expert 1, domain0: ")) << "the most specialised layer";
    EXPECT_THAT(dom, HasSubstr("Part 2: losses of "));
    EXPECT_THAT(dom, HasSubstr("Layer 0, expert 1: no evidence."));
    EXPECT_THAT(dom, HasSubstr("1.2</th><td>0.25</td><td>5.5</td><td>40</td>"));
    EXPECT_THAT(dom, HasSubstr("<caption>Load balance by layer</caption>")) << "tables";
    EXPECT_THAT(dom, Not(HasSubstr("NaN")));
    EXPECT_THAT(dom, Not(HasSubstr("undefined")));
}

TEST(AtlasPage, DrawsOneExpertOneDomainOneToken) {
    const TemporaryDirectory directory;
    testing::Browser browser;
    for (const AtlasShape shape : {AtlasShape{1, 2, 1, 1, 1, 1}, AtlasShape{2, 70, 90, 2, 8, 8}}) {
        write_file(directory / "a.html",
                   watched(atlas_html({random_atlas(shape), nullptr, nullptr, "1"}), ""));
        const std::string dom = shown(browser.dom(directory / "a.html"));
        EXPECT_EQ(attribute(dom, "data-error"), "") << shape.experts;
        EXPECT_NE(attribute(dom, "data-ready"), "") << shape.experts;
        EXPECT_THAT(dom, Not(HasSubstr("NaN"))) << shape.experts;
    }
}

TEST(AtlasPage, IsReadableLightDarkAndPrinted) {
    const TemporaryDirectory directory;
    const EvaluationResult result = testing::three_policies();
    const std::string script =
        "document.documentElement.dataset.paper=getComputedStyle(document.documentElement)"
        ".backgroundColor";
    write_file(directory / "a.html",
               watched(atlas_html({random_atlas({}), &result, nullptr, "1"}), script));
    testing::Browser browser;
    EXPECT_EQ(attribute(browser.dom(directory / "a.html"), "data-paper"), "rgb(252, 252, 249)");
    EXPECT_EQ(attribute(browser.dom(directory / "a.html", testing::Browser::kDark), "data-paper"),
              "rgb(22, 24, 27)");
    browser.screenshot(directory / "a.html", directory / "a.png", "--window-size=1200,3000");
    browser.screenshot(directory / "a.html", directory / "narrow.png", "--window-size=500,3000");
    browser.print(directory / "a.html", directory / "a.pdf");
    EXPECT_TRUE(read_file(directory / "a.png").starts_with("\x89PNG"));
    EXPECT_GT(std::filesystem::file_size(directory / "a.png"), 100000u);
    EXPECT_GT(std::filesystem::file_size(directory / "narrow.png"), 50000u);
    EXPECT_TRUE(read_file(directory / "a.pdf").starts_with("%PDF"));
    EXPECT_GT(std::filesystem::file_size(directory / "a.pdf"), 50000u);
}

/// The time is told, not asserted: other work on the machine is not the page's fault.
TEST(AtlasPage, LargeModelsOpen) {
    const TemporaryDirectory directory;
    const AtlasShape shape{48, 64, 100000, 10, 2, 14};
    const std::string script =
        "document.documentElement.dataset.height=document.body.offsetHeight;"
        "document.documentElement.dataset.laidOut=Math.round(performance.now())";
    write_file(directory / "a.html",
               watched(atlas_html({random_atlas(shape), nullptr, nullptr, "1"}), script));
    EXPECT_LT(std::filesystem::file_size(directory / "a.html"), 6000000u);
    testing::Browser browser;
    const std::string dom = browser.dom(directory / "a.html");
    EXPECT_EQ(attribute(dom, "data-error"), "");
    EXPECT_GT(attribute(dom, "data-height").size(), 3u);  // pixels
    std::printf("%s ms from navigation to the whole layout\n",
                attribute(dom, "data-laid-out").c_str());
}

}  // namespace
}  // namespace muster
