// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/terminal.h"

#include "muster/tokenizer/utf8.h"

namespace muster::cli {

ColorDepth depth_when_asked(const ColorEnvironment& environment) {
    const std::string_view colorterm = environment.colorterm ? environment.colorterm : "";
    const bool truecolor = colorterm == "truecolor" || colorterm == "24bit";
    return truecolor ? ColorDepth::truecolor : ColorDepth::ansi256;
}

ColorDepth depth_unasked(const ColorEnvironment& environment, bool is_terminal) {
    const bool refused = environment.no_color && *environment.no_color != '\0';
    const std::string_view term = environment.term ? environment.term : "";
    if (!is_terminal || refused || term.empty() || term == "dumb") return ColorDepth::none;
    return depth_when_asked(environment);
}

std::string without_controls(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    while (!text.empty()) {
        const Utf8Step step = next_utf8(text);
        const uint32_t c = step.code_point;
        const bool control = c < 0x20 ? c != '\n' && c != '\t' : c >= 0x7F && c < 0xA0;
        if (control || !step.valid) {
            append_utf8(0xFFFD, out);
        } else {
            out += text.substr(0, step.bytes);
        }
        text.remove_prefix(step.bytes);
    }
    return out;
}

}  // namespace muster::cli
