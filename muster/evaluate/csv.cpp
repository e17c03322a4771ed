// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/csv.h"

#include <csv.h>

#include <algorithm>
#include <new>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"

namespace muster {
namespace {

int no_space(unsigned char) { return 0; }

/// libcsv's parser with the table that its callbacks fill.
class Reader {
  public:
    explicit Reader(CsvTable& table) : table_(table) {
        csv_init(&parser_, CSV_STRICT | CSV_STRICT_FINI);
        csv_set_space_func(&parser_, no_space);
    }
    ~Reader() { csv_free(&parser_); }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

    /// Line by line, so that rows and errors know where they stand.
    void read(std::string_view content) {
        for (size_t begin = 0; begin < content.size();) {
            const size_t found = content.find('\n', begin);
            const size_t end = found == std::string_view::npos ? content.size() : found + 1;
            ++line_;
            // Only a quoted field goes on beyond the end of a line.
            if (parser_.quoted == 0) row_line_ = line_;
            const std::string_view text = content.substr(begin, end - begin);
            if (csv_parse(&parser_, text.data(), text.size(), on_field, on_row, this) !=
                text.size())
                refuse();
            begin = end;
        }
        if (csv_fini(&parser_, on_field, on_row, this) != 0) refuse();
    }

  private:
    [[noreturn]] void refuse() {
        if (csv_error(&parser_) != CSV_EPARSE) throw std::bad_alloc();
        throw Error(table_.name + ":" + std::to_string(row_line_),
                    "the quotes of this row do not match, expected comma-separated values as RFC "
                    "4180 has them");
    }

    static void on_field(void* text, size_t size, void* self) {
        static_cast<Reader*>(self)->fields_.emplace_back(static_cast<const char*>(text), size);
    }
    static void on_row(int, void* self) { static_cast<Reader*>(self)->row(); }

    void row() {
        if (table_.columns.empty()) {
            table_.columns = std::move(fields_);
        } else {
            table_.rows.push_back({row_line_, std::move(fields_)});
        }
        fields_.clear();
    }

    CsvTable& table_;
    csv_parser parser_{};
    std::vector<std::string> fields_;
    int line_ = 0, row_line_ = 1;
};

}  // namespace

int CsvTable::find(std::string_view column) const noexcept {
    const auto at = std::find(columns.begin(), columns.end(), column);
    return at == columns.end() ? -1 : static_cast<int>(at - columns.begin());
}

int CsvTable::column(std::string_view column) const {
    if (const int at = find(column); at >= 0) return at;
    std::string known;
    for (const std::string& c : columns) known += (known.empty() ? "" : ", ") + c;
    throw Error(name + ":1", "there is no column \"" + std::string(column) + "\" among " + known);
}

std::string CsvTable::where(const Row& row) const { return name + ":" + std::to_string(row.line); }

CsvTable read_csv(const std::filesystem::path& path) {
    CsvTable table;
    table.name = path.string();
    const std::string content = read_file(path);
    constexpr std::string_view kMark = "\xEF\xBB\xBF";
    std::string_view text = content;
    if (text.starts_with(kMark)) text.remove_prefix(kMark.size());
    Reader(table).read(text);
    if (table.columns.empty()) throw Error(table.name, "is empty, expected a row of column names");
    for (auto c = table.columns.begin(); c != table.columns.end(); ++c)
        if (!c->empty() && std::find(c + 1, table.columns.end(), *c) != table.columns.end())
            throw Error(table.name + ":1",
                        "there are two columns \"" + *c + "\", expected names of their own");
    for (const CsvTable::Row& row : table.rows)
        if (row.fields.size() != table.columns.size())
            throw Error(table.where(row), std::to_string(row.fields.size()) +
                                              " fields in this row, expected " +
                                              std::to_string(table.columns.size()));
    return table;
}

}  // namespace muster
