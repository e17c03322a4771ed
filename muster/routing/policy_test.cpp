// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/policy.h"

#include <gmock/gmock.h>

#include <clocale>

#include "muster/core/error.h"
#include "muster/core/random.h"
#include "muster/routing/policy_names.h"

namespace muster {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string error_of(std::string_view text) {
    try {
        RoutingPolicy::parse(text);
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

TEST(RoutingPolicy, ParsesWhatDesignGivesAsExamples) {
    EXPECT_EQ(RoutingPolicy::parse("model"), RoutingPolicy{});
    RoutingPolicy p = RoutingPolicy::parse("top-k:8/8/6/4");
    EXPECT_EQ(p.selection, Selection::top_k);
    EXPECT_THAT(p.values, ElementsAre(8, 8, 6, 4));
    p = RoutingPolicy::parse("top-p:0.6,max=8");
    EXPECT_EQ(p.selection, Selection::top_p);
    EXPECT_THAT(p.values, ElementsAre(0.6));
    EXPECT_EQ(p.max, 8);
    p = RoutingPolicy::parse("relative:0.2,min=4");
    EXPECT_EQ(p.min, 4);
    EXPECT_EQ(RoutingPolicy::parse("mean:5").values[0], 5);
}

TEST(RoutingPolicy, ParsesEveryKey) {
    const RoutingPolicy p = RoutingPolicy::parse(
        "top-p:4e-1,shared=off,force=1.2,groups=3,max=9,min=2,weight=scale:2.5,weight=renorm,"
        "ban=0.7,score=sqrt-softplus,ban=11.0");
    EXPECT_EQ(p.score, Score::sqrt_softplus);
    EXPECT_EQ(p.weight, Weighting::renorm);
    EXPECT_EQ(p.scale, 2.5);
    EXPECT_EQ(p.min, 2);
    EXPECT_EQ(p.max, 9);
    EXPECT_EQ(p.groups, 3);
    EXPECT_EQ(p.shared, false);
    EXPECT_THAT(p.ban, ElementsAre(std::pair(0, 7), std::pair(11, 0)));
    EXPECT_THAT(p.force, ElementsAre(std::pair(1, 2)));
    EXPECT_EQ(p.to_string(),
              "top-p:0.4,score=sqrt-softplus,weight=renorm,weight=scale:2.5,min=2,max=9,groups=3,"
              "ban=0.7,ban=11.0,force=1.2,shared=off");
}

TEST(RoutingPolicy, CanonicalTextsComeBackUnchanged) {
    for (const char* text : {"model",
                             "model,max=4",
                             "top-k:4",
                             "top-k:10000/65535",
                             "top-p:0.6,max=8",
                             "top-p:1",
                             "top-p:1e-10",
                             "relative:0",
                             "relative:0.2,min=4",
                             "threshold",
                             "expert-choice:2.5",
                             "hash",
                             "random:2",
                             "mean:5",
                             "mean:1.75/2",
                             "speed:20",
                             "speed:0.5,min=2",
                             "plan:a/b:c.json",
                             "plan:x,ban=0.1,use=random-layers,lambda=0.25",
                             "top-k:2,weight=uniform",
                             "top-k:2,weight=softmax",
                             "top-k:2,score=cosine",
                             "top-k:2,score=relu,weight=raw,weight=scale:16,shared=on"})
        EXPECT_EQ(RoutingPolicy::parse(text).to_string(), text);
}

RoutingPolicy random_policy(Random& random) {
    RoutingPolicy p;
    const auto maybe = [&] { return random.below(2) == 0; };
    const SelectionName& line = kSelectionNames[random.below(std::size(kSelectionNames))];
    p.selection = line.value;
    const bool none = line.kind == ValueKind::none || line.kind == ValueKind::name;
    const int most = line.kind == ValueKind::speed ? 1 : 4;
    const int values = none ? 0 : 1 + static_cast<int>(random.below(most));
    for (int i = 0; i < values; ++i) {
        const double share = 1 - random.uniform();
        if (line.kind == ValueKind::count)
            p.values.push_back(1 + random.below(65535));
        else
            p.values.push_back(line.kind == ValueKind::mean ? share * 100 : share);
    }
    if (line.kind == ValueKind::name) {
        p.plan = "a plan/" + std::to_string(random.below(100));
        if (maybe()) p.use = kPlanUseNames[random.below(std::size(kPlanUseNames))].value;
        if (maybe()) p.lambda = random.uniform();
        if (p.use && is_random(*p.use) && maybe()) p.deal = static_cast<int>(random.below(99));
    }
    if (maybe()) p.score = kScoreNames[random.below(std::size(kScoreNames))].value;
    if (maybe()) p.weight = kWeightingNames[random.below(std::size(kWeightingNames))].value;
    if (maybe()) p.scale = std::exp(10 * random.normal() / 4);
    if (maybe()) p.shared = maybe();
    for (uint64_t i = random.below(4); i > 0; --i)
        p.ban.emplace_back(static_cast<int>(i), static_cast<int>(random.below(100)));
    if (p.selection == Selection::expert_choice || p.selection == Selection::plan) return p;
    if (maybe()) p.min = 1 + static_cast<int>(random.below(9));
    if (maybe()) p.max = 9 + static_cast<int>(random.below(9));
    if (maybe()) p.groups = 1 + static_cast<int>(random.below(9));
    for (uint64_t i = random.below(4); i > 0; --i)
        p.force.emplace_back(static_cast<int>(i), 100 + static_cast<int>(random.below(100)));
    return p;
}

TEST(RoutingPolicy, ParseUndoesToString) {
    Random random(7);
    for (int i = 0; i < 5000; ++i) {
        const RoutingPolicy policy = random_policy(random);
        const std::string text = policy.to_string();
        EXPECT_EQ(RoutingPolicy::parse(text), policy) << text;
        EXPECT_EQ(RoutingPolicy::parse(text).to_string(), text);
    }
}

struct BadText {
    std::string text;
    const char* part;      ///< named in the message, in quotes
    const char* expected;  ///< after "expected"
};

TEST(RoutingPolicy, BadTextsNameThePartAndWhatWasExpected) {
    const BadText cases[] = {
        {"", "''", "model, top-k, top-p"},
        {"plan", "'plan'", "'plan:' and a number"},
        {"plan:", "'plan:'", "'plan:' and a name"},
        {"plan:x,max=2", "'max'", "no such key"},
        {"plan:x,use=some", "'use=some'", "both, global, layers, experts"},
        {"plan:x,lambda=-1", "'lambda=-1'", "a weight from 0"},
        {"top-k:2,lambda=1", "'lambda'", "plan:NAME before it"},
        {"plan:x,use=layers,deal=1", "'deal'", "use=random"},
        {"plan:x,use=random,deal=-1", "'deal=-1'", "a whole number from 0"},
        {"top-k:2,use=layers", "'use'", "plan:NAME before it"},
        {"speed:0", "'speed:0'", "a positive number of tokens per second"},
        {"speed:20/30", "'speed:20/30'", "one speed for all layers"},
        {"Top-k:4", "'Top-k:4'", "model, top-k"},
        {" top-k:4", "' top-k:4'", "model, top-k"},
        {"top-k", "'top-k'", "'top-k:' and a number"},
        {"top-k:", "'top-k:'", "a whole number from 1"},
        {"top-k:0", "'top-k:0'", "a whole number from 1"},
        {"top-k:-1", "'top-k:-1'", "a whole number from 1"},
        {"top-k:+1", "'top-k:+1'", "a whole number from 1"},
        {"top-k:2.5", "'top-k:2.5'", "a whole number from 1"},
        {"top-k:65536", "'top-k:65536'", "to 65535"},
        {"top-k:99999999999999", "'top-k:99999999999999'", "to 65535"},
        {"top-k:4/", "'top-k:4/'", "a whole number"},
        {"top-k:/4", "'top-k:/4'", "a whole number"},
        {"top-k:4//4", "'top-k:4//4'", "a whole number"},
        {"top-k:4 ", "'top-k:4 '", "a whole number"},
        {"top-p:0", "'top-p:0'", "a share above 0"},
        {"top-p:1.5", "'top-p:1.5'", "a share above 0"},
        {"top-p:nan", "'top-p:nan'", "a share above 0"},
        {"top-p:inf", "'top-p:inf'", "a share above 0"},
        {"top-p:-0.5", "'top-p:-0.5'", "a share above 0"},
        {"top-p:0,5", "'top-p:0'", "a share above 0"},
        {"top-p:0.5x", "'top-p:0.5x'", "a share above 0"},
        {"top-p:0x1", "'top-p:0x1'", "a share above 0"},
        {"relative:-0", "'relative:-0'", "a ratio from 0 to 1"},
        {"relative:2", "'relative:2'", "a ratio from 0 to 1"},
        {"mean:0", "'mean:0'", "a positive mean"},
        {"model:3", "'model:3'", "'model' without one"},
        {"hash:3", "'hash:3'", "'hash' without one"},
        {"top-k:4,", "''", "key=value"},
        {"top-k:4,,max=5", "''", "key=value"},
        {"top-k:4,max", "'max'", "key=value"},
        {"top-k:4,max=", "'max='", "key=value"},
        {"top-k:4,=3", "'=3'", "score, weight, min"},
        {"top-k:4,k=3", "'k=3'", "force, shared, use, lambda or deal"},
        {"top-k:4,MAX=3", "'MAX=3'", "score, weight"},
        {"top-k:4,max=0", "'max=0'", "a whole number from 1"},
        {"top-k:4,min=x", "'min=x'", "a whole number from 1"},
        {"top-k:4,max=5,max=5", "'max=5'", "each key once"},
        {"top-k:4,score=relu,score=relu", "'score=relu'", "each key once"},
        {"top-k:4,weight=raw,weight=renorm", "'weight=renorm'", "each key once"},
        {"top-k:4,weight=scale:2,weight=scale:3", "'weight=scale:3'", "each key once"},
        {"top-k:4,weight=scale:0", "'weight=scale:0'", "a factor from"},
        {"top-k:4,weight=scale:nan", "'weight=scale:nan'", "a factor from"},
        {"top-k:4,weight=mean", "'weight=mean'", "raw, renorm, softmax or uniform"},
        {"top-k:4,score=tanh", "'score=tanh'", "softmax, sigmoid, sqrt-softplus, relu or cosine"},
        {"top-k:4,shared=yes", "'shared=yes'", "on or off"},
        {"top-k:4,ban=3", "'ban=3'", "LAYER.EXPERT"},
        {"top-k:4,ban=3.", "'ban=3.'", "a whole number from 0"},
        {"top-k:4,ban=.3", "'ban=.3'", "a whole number from 0"},
        {"top-k:4,ban=1.2.3", "'ban=1.2.3'", "a whole number from 0"},
        {"top-k:4,ban=1.2,ban=1.2", "'ban=1.2'", "each expert once"},
        {"top-k:4,ban=1.2,force=1.2", "'force=1.2'", "one of ban and force"},
        {"top-k:4,min=5,max=3", "'min=5'", "min at most max"},
        {"expert-choice:2,max=3", "'max'", "no such key"},
        {"expert-choice:2,force=0.3", "'force'", "no such key"},
        {std::string("top-k:4\n\0", 9),
         "'top-k:4?"
         "?'",
         "a whole number"},
        {"top-k:4," + std::string(20000, 'x'), "'top-k:4,xxx", "at most 16384 characters"},
        {"top-k:" + std::string(5000, '9'), "'top-k:999", "to 65535"},
    };
    for (const BadText& c : cases) {
        const std::string message = error_of(c.text);
        EXPECT_THAT(message, HasSubstr("[policy] ")) << c.text.substr(0, 40);
        EXPECT_THAT(message, HasSubstr(c.part));
        const size_t expected = message.find(", expected ");
        ASSERT_NE(expected, std::string::npos) << message;
        EXPECT_THAT(message.substr(expected), HasSubstr(c.expected));
        EXPECT_LT(message.size(), 300u);
    }
}

TEST(RoutingPolicy, NumbersDoNotDependOnTheLocale) {
    const char* const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8"};
    for (const char* name : names) std::setlocale(LC_NUMERIC, name);
    EXPECT_EQ(RoutingPolicy::parse("top-p:0.25").values[0], 0.25);
    EXPECT_EQ(RoutingPolicy::parse("top-p:0.25").to_string(), "top-p:0.25");
    std::setlocale(LC_NUMERIC, "C");
}

TEST(RoutingPolicy, RandomBytesNeverDoMoreThanThrow) {
    constexpr std::string_view kAlphabet = "topkmdelranif-:/,.=0123456789e \n";
    Random random(11);
    for (int i = 0; i < 20000; ++i) {
        std::string text = random.below(2) ? "top-p:0.5" : "top-k:4,";
        for (uint64_t n = random.below(12); n > 0; --n) {
            const char c = kAlphabet[random.below(kAlphabet.size())];
            text.insert(text.begin() + static_cast<int64_t>(random.below(text.size() + 1)), c);
        }
        try {
            const RoutingPolicy policy = RoutingPolicy::parse(text);
            EXPECT_EQ(RoutingPolicy::parse(policy.to_string()), policy) << text;
        } catch (const Error&) {
        }
    }
}

}  // namespace
}  // namespace muster
