// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/completion.h"

#include <fmt/format.h>

#include "muster/core/error.h"

namespace muster::cli {
namespace {

/// Inside single quotes of any of the three shells; descriptions are cut to one line.
std::string quoted(std::string_view text) {
    std::string out;
    for (const char c : text.substr(0, text.find('\n'))) {
        if (c == '\'') {
            out += "'\\''";
        } else {
            out += c;
        }
    }
    return out;
}

std::string join_names(const CommandInfo& command) {
    std::string out;
    for (const OptionInfo& o : command.options)
        for (const std::string& name : o.names) out += (out.empty() ? "" : " ") + name;
    return out;
}

std::string join_commands(const CommandInfo& program) {
    std::string out;
    for (const CommandInfo& c : program.commands) out += (out.empty() ? "" : " ") + c.name;
    return out;
}

/// Words that a positional argument of the command may be.
std::string positional_choices(const CommandInfo& command) {
    std::string out;
    for (const OptionInfo& o : command.options)
        if (o.names.empty()) out += fmt::format(" {}", fmt::join(o.choices, " "));
    return out;
}

std::string bash_values(const CommandInfo& command) {
    std::string out;
    for (const OptionInfo& o : command.options) {
        if (!o.takes_value || o.names.empty()) continue;
        std::string reply;
        if (!o.choices.empty()) {
            reply = fmt::format("COMPREPLY=($(compgen -W '{}' -- \"$word\"))",
                                fmt::join(o.choices, " "));
        } else {
            reply = o.is_path ? "COMPREPLY=($(compgen -f -- \"$word\"))" : "COMPREPLY=()";
        }
        out += fmt::format("                {}) {}; return ;;\n", fmt::join(o.names, "|"), reply);
    }
    return out;
}

std::string bash(const CommandInfo& program) {
    std::string out = fmt::format(
        "# bash completion of {0}; put it where bash-completion looks, or source it\n"
        "_{0}() {{\n"
        "    local word=\"${{COMP_WORDS[COMP_CWORD]}}\" before=\"${{COMP_WORDS[COMP_CWORD-1]}}\"\n"
        "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
        "        COMPREPLY=($(compgen -W '{1} {2}' -- \"$word\"))\n"
        "        return\n"
        "    fi\n"
        "    case \"${{COMP_WORDS[1]}}\" in\n",
        program.name, join_commands(program), join_names(program));
    for (const CommandInfo& c : program.commands)
        out += fmt::format(
            "        {})\n"
            "            case \"$before\" in\n{}            esac\n"
            "            case \"$word\" in\n"
            "                -*) COMPREPLY=($(compgen -W '{}' -- \"$word\")) ;;\n"
            "                *) COMPREPLY=($(compgen -W '{}' -- \"$word\") "
            "$(compgen -f -- \"$word\")) ;;\n"
            "            esac ;;\n",
            c.name, bash_values(c), join_names(c), positional_choices(c));
    return out + fmt::format("    esac\n}}\ncomplete -o filenames -F _{0} {0}\n", program.name);
}

/// Square brackets and colons have a meaning in _arguments.
std::string zsh_text(std::string_view text) {
    std::string out;
    for (const char c : quoted(text)) {
        if (c == '[' || c == ']' || c == ':') out += '\\';
        out += c;
    }
    return out;
}

std::string zsh_action(const OptionInfo& o) {
    if (!o.choices.empty() && o.is_path) {
        // The blank keeps _arguments from adding words of its own to the call.
        return fmt::format(" _alternative \"words\\:word\\:({})\" \"files\\:file\\:_files\"",
                           fmt::join(o.choices, " "));
    }
    if (!o.choices.empty()) return fmt::format("({})", fmt::join(o.choices, " "));
    return o.is_path ? "_files" : " ";
}

std::string zsh(const CommandInfo& program) {
    std::string out = fmt::format(
        "#compdef {0}\n_{0}() {{\n    local -a commands\n    commands=(\n", program.name);
    for (const CommandInfo& c : program.commands)
        out += fmt::format("        '{}:{}'\n", c.name, zsh_text(c.description));
    out +=
        "    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n"
        "        return\n    fi\n    local command=$words[2]\n    shift words\n"
        "    (( CURRENT-- ))\n    case $command in\n";
    for (const CommandInfo& c : program.commands) {
        out += fmt::format("        {})\n            _arguments", c.name);
        for (const OptionInfo& o : c.options) {
            if (o.names.empty())
                out += fmt::format(" \\\n                '*:{}:{}'", zsh_text(o.description),
                                   zsh_action(o));
            for (const std::string& name : o.names)
                out +=
                    fmt::format(" \\\n                '*{}[{}]{}'", name, zsh_text(o.description),
                                o.takes_value ? ":value:" + zsh_action(o) : "");
        }
        out += "\n            ;;\n";
    }
    return out + fmt::format("    esac\n}}\n_{} \"$@\"\n", program.name);
}

std::string fish(const CommandInfo& program) {
    std::string out = fmt::format("# fish completion of {0}\ncomplete -c {0} -f\n", program.name);
    for (const CommandInfo& c : program.commands)
        out += fmt::format("complete -c {} -n __fish_use_subcommand -a {} -d '{}'\n", program.name,
                           c.name, quoted(c.description));
    for (const CommandInfo& c : program.commands) {
        const std::string head =
            fmt::format("complete -c {} -n '__fish_seen_subcommand_from {}'", program.name, c.name);
        for (const OptionInfo& o : c.options) {
            std::string line = head;
            for (const std::string& name : o.names)
                line += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
            if (o.is_path) {
                line += o.names.empty() ? " -F" : " -r -F";
            } else if (o.takes_value && !o.names.empty()) {
                line += " -x";
            }
            if (!o.choices.empty()) line += fmt::format(" -a '{}'", fmt::join(o.choices, " "));
            out += fmt::format("{} -d '{}'\n", line, quoted(o.description));
        }
    }
    return out;
}

}  // namespace

std::string completion_script(const CommandInfo& program, std::string_view shell) {
    if (shell == "bash") return bash(program);
    if (shell == "zsh") return zsh(program);
    if (shell == "fish") return fish(program);
    throw Error("completion",
                "unknown shell \"" + std::string(shell) + "\", expected bash, zsh or fish");
}

}  // namespace muster::cli
