// SPDX-License-Identifier: Apache-2.0
#include "muster/train/config.h"

#include <gmock/gmock.h>

#include "muster/core/error.h"

namespace muster::train {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr const char* kSmall = "[data]\ntrain = [\"a.txt\"]\n";

TEST(TrainConfig, DefaultsWork) {
    const TrainConfig c = parse_config(kSmall, "c.toml");
    EXPECT_NO_THROW(c.check());
    EXPECT_EQ(c.model.num_layers(), 6);
    EXPECT_EQ(c.model.policy.to_string(), "top-p:0.4");
    EXPECT_FLOAT_EQ(c.losses.entropy, 1e-4f);
}

TEST(TrainConfig, RoundTripsThroughToml) {
    TrainConfig c = parse_config(
        std::string(kSmall) +
            "[model]\nlayers = 4\nmoe_every = 2\nexpert_widths = [32, 64]\nshared_width = "
            "32\nkv_heads = 2\n"
            "[routing]\npolicy = \"top-k:1\"\n[training]\nschedule = \"wsd\"\ndtype = \"f32\"\n",
        "c.toml");
    const std::string text = to_toml(c);
    const TrainConfig again = parse_config(text, "again");
    EXPECT_EQ(to_toml(again), text);
    EXPECT_EQ(to_json(again.model), to_json(c.model));
    EXPECT_TRUE(again.model.layers[0].dense());
    EXPECT_EQ(again.model.layers[1].widths, (std::vector<int>{32, 64}));
}

TEST(TrainConfig, NamesWhatIsWrong) {
    const std::pair<const char*, const char*> cases[] = {
        {"[model]\nlayer = 2\n", "unknown key 'layer' in [model]"},
        {"[modle]\n", "unknown table or key 'modle'"},
        {"model = 3\n", "expected [model]"},
        {"[model]\nlayers = \"two\"\n", "'layers' in [model], expected an integer"},
        {"[model]\nlayers = 0\n", "layers"},
        {"[model\n", "is no valid TOML"},
        {"[training]\nschedule = \"linear\"\n", "one of 'cosine', 'wsd'"},
        {"[training]\nlr = nan\n", "'lr' in [training], expected a finite number"},
        {"[training]\nlr = 2.0\n", "'training.lr'"},
        {"[training]\nbatch_tokens = 1000\n", "a multiple of accumulate * context = 512"},
        {"[routing]\npolicy = \"top-k:0\"\n", "top-k"},
        {"[routing]\npolicy = \"top-k:17\"\n", "17"},
        {"[routing]\npolicy = \"best\"\n", "best"},
        {"[model]\nactivation = \"tanh\"\n", "tanh"},
        {"[data]\ntrain = [\"a.txt\"]\nvocabulary_size = 10\n", "vocabulary_size"},
        {"[data]\ntrain = 3\n", "'train' in [data], expected a list"},
        {"[output]\nkeep = 0\n", "output.keep"},
        {"[model]\nheads = 3\n", "head"},
    };
    for (const auto& [text, part] : cases) {
        const std::string toml =
            std::string(text).starts_with("[data]") ? text : std::string(text) + kSmall;
        EXPECT_THAT(([&] { parse_config(toml, "c.toml").check(); }),
                    ThrowsMessage<Error>(HasSubstr(part)))
            << text;
    }
    EXPECT_THAT([] { parse_config("", "c.toml").check(); },
                ThrowsMessage<Error>(HasSubstr("data.train")));
}

TEST(TrainConfig, Schedules) {
    TrainConfig c = parse_config(kSmall, "c.toml");
    c.training.tokens = 100 * c.training.batch_tokens;
    c.training.warmup = 10;
    EXPECT_DOUBLE_EQ(learning_rate(c, 0), c.training.lr / 10);
    EXPECT_DOUBLE_EQ(learning_rate(c, 9), c.training.lr);
    EXPECT_NEAR(learning_rate(c, 55), (c.training.lr + c.training.min_lr) / 2, 1e-9);
    EXPECT_NEAR(learning_rate(c, 100), c.training.min_lr, 1e-12);
    c.training.schedule = Schedule::wsd;
    EXPECT_DOUBLE_EQ(learning_rate(c, 79), c.training.lr);
    EXPECT_NEAR(learning_rate(c, 90), (c.training.lr + c.training.min_lr) / 2, 1e-9);
}

}  // namespace
}  // namespace muster::train
