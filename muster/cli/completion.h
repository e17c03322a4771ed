// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace muster::cli {

/// An option or positional argument, as completion sees it.
struct OptionInfo {
    std::vector<std::string> names;  ///< with dashes; empty for a positional argument
    std::string description;
    bool takes_value = false;
    bool is_path = false;
    std::vector<std::string> choices;  ///< when the value is one of a few words
};

/// The program or one of its commands.
struct CommandInfo {
    std::string name;
    std::string description;
    std::vector<OptionInfo> options;
    std::vector<CommandInfo> commands;
};

/// `muster completion`.
struct CompletionOptions {
    std::string shell;  ///< bash, zsh, fish
};

/// A script that completes commands, options, choices and files of `program`. Throws Error for an
/// unknown shell.
std::string completion_script(const CommandInfo& program, std::string_view shell);

}  // namespace muster::cli
