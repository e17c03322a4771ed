// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/completion.h"

#include <gmock/gmock.h>

#include "muster/cli/options.h"
#include "muster/core/error.h"

namespace muster::cli {
namespace {

using ::testing::HasSubstr;

TEST(Completion, EveryCommandAndOptionIsInEveryScript) {
    const CommandInfo tree = command_tree();
    ASSERT_GE(tree.commands.size(), 9u);
    for (const char* shell : {"bash", "zsh", "fish"}) {
        const std::string script = completion_script(tree, shell);
        for (const CommandInfo& command : tree.commands) {
            EXPECT_THAT(script, HasSubstr(command.name)) << shell;
            for (const OptionInfo& option : command.options) {
                for (const std::string& name : option.names)
                    EXPECT_THAT(script, HasSubstr(name.substr(name.find_first_not_of('-'))))
                        << shell;
                for (const std::string& choice : option.choices)
                    EXPECT_THAT(script, HasSubstr(choice)) << shell;
            }
        }
    }
}

TEST(Completion, TreeKnowsValuesPathsAndChoices) {
    const CommandInfo tree = command_tree();
    const auto run = std::find_if(tree.commands.begin(), tree.commands.end(),
                                  [](const CommandInfo& c) { return c.name == "run"; });
    ASSERT_NE(run, tree.commands.end());
    for (const OptionInfo& o : run->options) {
        const std::string name = o.names.empty() ? "MODEL" : o.names.back();
        EXPECT_EQ(o.takes_value, name != "--json" && name != "--echo" && name != "--quiet" &&
                                     name != "--ignore-end" && name != "--no-check" &&
                                     name != "--mmap" && name != "--help")
            << name;
        EXPECT_EQ(o.is_path, name == "MODEL" || name == "--file" || name == "--prompt-cache" ||
                                 name == "--stats")
            << name;
        if (name == "--color") {
            EXPECT_THAT(o.choices, ::testing::ElementsAre("experts", "none"));
        }
    }
}

TEST(Completion, QuotesDescriptions) {
    CommandInfo program{"p", "", {}, {{"c", "it's [a]: b\nmore", {}, {}}}};
    EXPECT_THAT(completion_script(program, "fish"), HasSubstr("'it'\\''s [a]: b'"));
    EXPECT_THAT(completion_script(program, "zsh"), HasSubstr("it'\\''s \\[a\\]\\: b'"));
    EXPECT_THROW(completion_script(program, "csh"), Error);
}

}  // namespace
}  // namespace muster::cli
