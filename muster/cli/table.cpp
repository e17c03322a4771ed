// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/table.h"

#include <algorithm>

#include "muster/cli/text.h"
#include "muster/core/error.h"

namespace muster::cli {

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

void Table::row(std::vector<std::string> cells) {
    MUSTER_ASSERT(cells.size() == columns_.size());
    rows_.push_back(std::move(cells));
}

std::string Table::render(int indent) const {
    std::vector<int> widths;
    for (size_t c = 0; c < columns_.size(); ++c) {
        int width = display_width(columns_[c].title);
        for (const auto& r : rows_) width = std::max(width, display_width(r[c]));
        widths.push_back(width);
    }
    std::string out;
    const auto line = [&](const auto& cell) {
        std::string text(static_cast<size_t>(indent), ' ');
        for (size_t c = 0; c < columns_.size(); ++c) {
            const std::string& s = cell(c);
            const std::string pad(static_cast<size_t>(widths[c] - display_width(s)), ' ');
            if (c > 0) text += "  ";
            text += columns_[c].align == Align::left ? s + pad : pad + s;
        }
        text.erase(text.find_last_not_of(' ') + 1);
        out += text + "\n";
    };
    line([&](size_t c) -> const std::string& { return columns_[c].title; });
    std::vector<std::string> rules;
    for (const int width : widths) {
        std::string& rule = rules.emplace_back();
        for (int i = 0; i < width; ++i) rule += "─";
    }
    line([&](size_t c) -> const std::string& { return rules[c]; });
    for (const auto& r : rows_) line([&](size_t c) -> const std::string& { return r[c]; });
    return out;
}

}  // namespace muster::cli
