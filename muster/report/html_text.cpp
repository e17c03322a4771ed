// SPDX-License-Identifier: Apache-2.0
#include "muster/report/html_text.h"

#include <algorithm>

#include "muster/core/error.h"
#include "muster/tokenizer/utf8.h"

namespace muster {

std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : to_valid_utf8(text)) {
        switch (c) {
            case '&':
                out += "&amp;";
                break;
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '"':
                out += "&quot;";
                break;
            default:
                // Control characters stand in no XML document.
                if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') {
                    append_utf8(0xFFFD, out);
                } else {
                    out += c;
                }
        }
    }
    return out;
}

std::string fill_template(std::string_view text,
                          const std::vector<std::pair<std::string_view, std::string>>& values) {
    std::string out;
    for (size_t begin = 0; begin < text.size();) {
        const size_t open = text.find("{{", begin);
        const size_t close = open == text.npos ? text.npos : text.find("}}", open);
        if (close == text.npos) return out.append(text.substr(begin));
        const std::string_view name = text.substr(open + 2, close - open - 2);
        const auto found = std::find_if(values.begin(), values.end(),
                                        [&](const auto& v) { return v.first == name; });
        MUSTER_ASSERT(found != values.end());
        out.append(text.substr(begin, open - begin)).append(found->second);
        begin = close + 2;
    }
    return out;
}

}  // namespace muster
