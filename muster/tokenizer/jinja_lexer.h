// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace muster::jinja {

struct Token {
    enum class Type {
        data,  ///< text between tags, as it is to be written
        variable_begin,
        variable_end,
        block_begin,
        block_end,
        name,
        string,  ///< escapes resolved
        integer,
        real,
        op,  ///< an operator or a bracket
        end
    };
    Type type = Type::end;
    std::string text;
    int64_t integer = 0;
    double real = 0;
    int line = 1;
};

/// A template's tokens, the last of type `end`. White space as Jinja2 3.1 with trim_blocks and
/// lstrip_blocks, which Hugging Face sets: the line feed after a tag and blanks before a tag at the
/// beginning of a line vanish, `-` and `+` beside a tag's marks change that; one line feed at the
/// end of the template vanishes. `text` is valid UTF-8. Throws muster::Error naming the line.
std::vector<Token> tokenize(std::string_view text);

[[noreturn]] void fail_at(int line, const std::string& what);

}  // namespace muster::jinja
