// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// Python's string methods on valid UTF-8: positions are characters. For chat templates, and for
// task files whose published preparation is written in Python. Internal to the library.
namespace muster::jinja {

class Heap;

bool is_space(uint32_t code_point);  ///< str.isspace of one character
int64_t count_characters(std::string_view s);
/// The beginnings of the characters, and s.size().
std::vector<size_t> character_offsets(std::string_view s);
/// Where the character of that number, from 0 to count_characters(s), begins.
size_t character_offset(std::string_view s, int64_t character);

/// std::string_view's find and rfind in linear time. What they take beyond one reading of `s` is
/// charged.
size_t find_text(Heap& heap, std::string_view s, std::string_view what, size_t from = 0);
size_t find_last_text(Heap& heap, std::string_view s, std::string_view what);

/// Hexadecimal digits of \x, \u and \U.
void append_hex(uint32_t value, int digits, std::string& out);

enum class Side { left, right, both };
/// Without white space, or without the characters of `characters` when it is not null.
std::string_view strip(std::string_view s, Side side = Side::both,
                       const std::string_view* characters = nullptr);

/// Simple case mappings of Unicode (one character to one; Python knows a few longer ones).
std::string upper(std::string_view s);
std::string lower(std::string_view s);
std::string capitalize(std::string_view s);
std::string title(std::string_view s);         ///< str.title: after every non-letter
std::string title_filter(std::string_view s);  ///< Jinja's: after white space and -([{<

/// str.replace; `most` < 0: every one. Throws Fault when the result had more bytes than the output
/// may. Every replacement is charged, reading `s` is not.
std::string replace(Heap& heap, std::string_view s, std::string_view from, std::string_view to,
                    int64_t most);
/// str.split and rsplit; an empty separator means white space. `most` < 0: everywhere. The parts
/// are charged, reading `s` is not.
std::vector<std::string_view> split(Heap& heap, std::string_view s, std::string_view separator,
                                    int64_t most);
std::vector<std::string_view> split_right(Heap& heap, std::string_view s,
                                          std::string_view separator, int64_t most);
/// str.splitlines, likewise
std::vector<std::string_view> split_lines(Heap& heap, std::string_view s, bool keep_ends = false);

enum class Case { none, lower, upper, mixed };
/// Which case the letters have: `none` without any.
Case case_of(std::string_view s);

}  // namespace muster::jinja
