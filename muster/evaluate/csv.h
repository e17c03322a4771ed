// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace muster {

/// Comma-separated values with a first row of names (RFC 4180: fields may be quoted and hold
/// commas, doubled quotes and line breaks; white space belongs to its field).
struct CsvTable {
    struct Row {
        int line = 0;  ///< of the file where the row begins, from 1
        std::vector<std::string> fields;
    };
    std::string name;  ///< the file's, for messages
    std::vector<std::string> columns;
    std::vector<Row> rows;  ///< each as long as `columns`

    /// Its number, or -1.
    int find(std::string_view column) const noexcept;
    /// Its number; throws Error naming the columns that there are.
    int column(std::string_view column) const;
    /// "file:line" of a row.
    std::string where(const Row& row) const;
};

/// Reads a file in UTF-8, with or without a byte order mark; lines that are empty are left out.
/// Throws Error naming file and line for quotes that do not match and for rows of another length.
CsvTable read_csv(const std::filesystem::path& path);

}  // namespace muster
