// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "muster/core/error.h"
#include "muster/tokenizer/utf8.h"

namespace muster {
namespace {

/// Below it nothing decomposes that would not compose again, and nothing combines.
constexpr uint32_t kFirstCombining = 0x300;

utf8proc_propval_t combining_class(utf8proc_int32_t c) noexcept {
    return utf8proc_get_property(c)->combining_class;
}

/// utf8proc's own reordering takes the square of a run of marks.
void reorder(std::vector<utf8proc_int32_t>& points) {
    for (auto begin = points.begin(); begin != points.end();) {
        if (combining_class(*begin) == 0) {
            ++begin;
            continue;
        }
        auto end = begin;
        while (end != points.end() && combining_class(*end) != 0) ++end;
        std::stable_sort(begin, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
            return combining_class(a) < combining_class(b);
        });
        begin = end;
    }
}

}  // namespace

std::string to_nfc(std::string_view text) {
    bool plain = true;
    for (size_t at = 0; plain && at < text.size();) {
        const Utf8Step step = next_utf8(text.substr(at));
        plain = step.code_point < kFirstCombining;
        at += step.bytes;
    }
    if (plain) return std::string(text);
    std::vector<utf8proc_int32_t> points;
    points.reserve(text.size());
    for (size_t at = 0; at < text.size();) {
        const Utf8Step step = next_utf8(text.substr(at));
        utf8proc_int32_t parts[8];
        int boundary = 0;
        const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(step.code_point),
                                                   parts, 8, UTF8PROC_DECOMPOSE, &boundary);
        if (count < 1 || count > 8) throw Error("tokenizer", "a character cannot be normalised");
        points.insert(points.end(), parts, parts + count);
        at += step.bytes;
    }
    reorder(points);
    const auto size = utf8proc_normalize_utf32(
        points.data(), static_cast<utf8proc_ssize_t>(points.size()),
        static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    if (size < 0) throw Error("tokenizer", "the text cannot be normalised");
    std::string result;
    result.reserve(text.size());
    for (utf8proc_ssize_t i = 0; i < size; ++i) {
        append_utf8(static_cast<uint32_t>(points[static_cast<size_t>(i)]), result);
    }
    return result;
}

}  // namespace muster
