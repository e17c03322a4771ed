// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace muster::cli {

/// Text in aligned columns, for people. Cells are UTF-8; widths are terminal columns.
class Table {
  public:
    enum class Align { left, right };
    struct Column {
        std::string title;
        Align align = Align::right;
    };

    explicit Table(std::vector<Column> columns);

    /// One cell per column (asserted).
    void row(std::vector<std::string> cells);
    bool empty() const noexcept { return rows_.empty(); }

    /// Titles, a rule, the rows; each line ends with a line feed and has no trailing spaces.
    std::string render(int indent = 0) const;

  private:
    std::vector<Column> columns_;
    std::vector<std::vector<std::string>> rows_;
};

}  // namespace muster::cli
