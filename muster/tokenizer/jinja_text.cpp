// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/jinja_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstring>

#include "muster/tokenizer/jinja_value.h"
#include "muster/tokenizer/utf8.h"

namespace muster::jinja {
namespace {

bool is_ascii_lower(uint32_t c) { return c >= 'a' && c <= 'z'; }
bool is_ascii_upper(uint32_t c) { return c >= 'A' && c <= 'Z'; }

uint32_t to_upper(uint32_t c) {
    if (c < 0x80) return is_ascii_lower(c) ? c - 32 : c;
    return static_cast<uint32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c)));
}
uint32_t to_lower(uint32_t c) {
    if (c < 0x80) return is_ascii_upper(c) ? c + 32 : c;
    return static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}
uint32_t to_title(uint32_t c) {
    if (c < 0x80) return to_upper(c);
    return static_cast<uint32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c)));
}

/// `mixed`: title case.
Case case_of_character(uint32_t c) {
    if (c < 0x80)
        return is_ascii_lower(c) ? Case::lower : is_ascii_upper(c) ? Case::upper : Case::none;
    switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
        case UTF8PROC_CATEGORY_LL:
            return Case::lower;
        case UTF8PROC_CATEGORY_LU:
            return Case::upper;
        case UTF8PROC_CATEGORY_LT:
            return Case::mixed;
        default:
            return Case::none;
    }
}

/// f(code point, position in bytes, length in bytes)
template <typename F>
void each_character(std::string_view s, F&& f) {
    for (size_t i = 0; i < s.size();) {
        const Utf8Step step = next_utf8(s.substr(i));
        f(step.code_point, i, step.bytes);
        i += step.bytes;
    }
}

template <typename F>
std::string map_characters(std::string_view s, F&& f) {
    std::string out;
    out.reserve(s.size());
    each_character(s, [&](uint32_t c, size_t, size_t) { append_utf8(f(c), out); });
    return out;
}

/// The beginning of the character that ends before byte `end` > 0.
size_t previous(std::string_view s, size_t end) {
    size_t i = end - 1;
    while (i > 0 && (static_cast<uint8_t>(s[i]) & 0xC0) == 0x80) --i;
    return i;
}

/// Parts that are charged for.
class Parts {
  public:
    explicit Parts(Heap& heap) : heap_(heap) {}
    void add(std::string_view part) {
        heap_.charge(2);
        parts_.push_back(part);
    }
    int64_t size() const noexcept { return static_cast<int64_t>(parts_.size()); }
    std::vector<std::string_view> take() { return std::move(parts_); }
    std::vector<std::string_view> take_reversed() {
        std::reverse(parts_.begin(), parts_.end());
        return take();
    }

  private:
    Heap& heap_;
    std::vector<std::string_view> parts_;
};

std::string reversed(std::string_view s) { return {s.rbegin(), s.rend()}; }

bool is_line_end(uint32_t c) {
    return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

}  // namespace

bool is_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

int64_t count_characters(std::string_view s) {
    return std::count_if(s.begin(), s.end(),
                         [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
}

std::vector<size_t> character_offsets(std::string_view s) {
    std::vector<size_t> offsets;
    each_character(s, [&](uint32_t, size_t i, size_t) { offsets.push_back(i); });
    offsets.push_back(s.size());
    return offsets;
}

size_t character_offset(std::string_view s, int64_t character) {
    size_t i = 0;
    for (; character > 0; --character) i += next_utf8(s.substr(i)).bytes;
    return i;
}

void append_hex(uint32_t value, int digits, std::string& out) {
    for (int i = digits - 1; i >= 0; --i) out += "0123456789abcdef"[value >> (4 * i) & 15];
}

size_t find_text(Heap& heap, std::string_view s, std::string_view what, size_t from) {
    if (from > s.size()) return s.npos;
    const void* const at = memmem(s.data() + from, s.size() - from, what.data(), what.size());
    const size_t found =
        at == nullptr ? s.npos : static_cast<size_t>(static_cast<const char*>(at) - s.data());
    // glibc compares what is up to 256 bytes long at every place, if the text is made for that.
    const size_t passed = std::min(found, s.size()) - from;
    heap.charge_bytes(passed * std::min<size_t>(what.size(), 256) / 64);
    return found;
}

size_t find_last_text(Heap& heap, std::string_view s, std::string_view what) {
    const size_t found = find_text(heap, reversed(s), reversed(what));
    return found == s.npos ? s.npos : s.size() - found - what.size();
}

std::string_view strip(std::string_view s, Side side, const std::string_view* characters) {
    const auto goes = [&](size_t i) {
        const Utf8Step step = next_utf8(s.substr(i));
        if (characters == nullptr) return is_space(step.code_point);
        return characters->find(s.substr(i, step.bytes)) != characters->npos;
    };
    if (side != Side::right)
        while (!s.empty() && goes(0)) s.remove_prefix(next_utf8(s).bytes);
    if (side != Side::left) {
        while (!s.empty()) {
            const size_t last = previous(s, s.size());
            if (!goes(last)) break;
            s = s.substr(0, last);
        }
    }
    return s;
}

std::string upper(std::string_view s) { return map_characters(s, to_upper); }
std::string lower(std::string_view s) { return map_characters(s, to_lower); }

std::string capitalize(std::string_view s) {
    bool first = true;
    return map_characters(s, [&](uint32_t c) {
        const uint32_t mapped = first ? to_title(c) : to_lower(c);
        first = false;
        return mapped;
    });
}

std::string title(std::string_view s) {
    bool inside = false;
    return map_characters(s, [&](uint32_t c) {
        const uint32_t mapped = inside ? to_lower(c) : to_title(c);
        inside = case_of_character(c) != Case::none;
        return mapped;
    });
}

std::string title_filter(std::string_view s) {
    bool inside = false;
    return map_characters(s, [&](uint32_t c) {
        const uint32_t mapped = inside ? to_lower(c) : to_upper(c);
        const bool separates =
            is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
        inside = !separates;
        return mapped;
    });
}

std::string replace(Heap& heap, std::string_view s, std::string_view from, std::string_view to,
                    int64_t most) {
    const size_t limit = heap.limits().output;
    std::string out;
    const auto add = [&](std::string_view part) {
        if (out.size() + part.size() > limit) throw Fault("a replacement makes a string too long");
        out += part;
    };
    if (from.empty()) {  // between all characters, as Python does
        int64_t done = 0;
        each_character(s, [&](uint32_t, size_t i, size_t bytes) {
            heap.charge(1);
            if (most < 0 || done++ < most) add(to);
            add(s.substr(i, bytes));
        });
        if (most < 0 || done < most) add(to);
        return out;
    }
    size_t at = 0;
    for (int64_t done = 0; most < 0 || done < most; ++done) {
        const size_t found = find_text(heap, s, from, at);
        if (found == s.npos) break;
        add(s.substr(at, found - at));
        add(to);
        at = found + from.size();
    }
    add(s.substr(at));
    return out;
}

std::vector<std::string_view> split(Heap& heap, std::string_view s, std::string_view separator,
                                    int64_t most) {
    Parts parts(heap);
    const auto full = [&] { return most >= 0 && parts.size() >= most; };
    if (!separator.empty()) {
        size_t at = 0;
        for (size_t found; !full() && (found = find_text(heap, s, separator, at)) != s.npos;) {
            parts.add(s.substr(at, found - at));
            at = found + separator.size();
        }
        parts.add(s.substr(at));
        return parts.take();
    }
    for (s = strip(s, Side::left); !s.empty(); s = strip(s, Side::left)) {
        size_t end = 0;
        while (end < s.size() && !full()) {
            const Utf8Step step = next_utf8(s.substr(end));
            if (is_space(step.code_point)) break;
            end += step.bytes;
        }
        if (full()) {  // the rest, without white space before it only
            parts.add(s);
            break;
        }
        parts.add(s.substr(0, end));
        s.remove_prefix(end);
    }
    return parts.take();
}

std::vector<std::string_view> split_right(Heap& heap, std::string_view s,
                                          std::string_view separator, int64_t most) {
    Parts parts(heap);
    const auto full = [&] { return most >= 0 && parts.size() >= most; };
    if (!separator.empty()) {
        // From the left of the string written backwards.
        const std::string mirrored = reversed(s), mark = reversed(separator);
        size_t at = 0;
        for (size_t found; !full() && (found = find_text(heap, mirrored, mark, at)) != s.npos;) {
            parts.add(s.substr(s.size() - found, found - at));
            at = found + mark.size();
        }
        parts.add(s.substr(0, s.size() - at));
    } else {
        for (s = strip(s, Side::right); !s.empty(); s = strip(s, Side::right)) {
            size_t begin = s.size();
            while (begin > 0 && !full()) {
                const size_t before = previous(s, begin);
                if (is_space(next_utf8(s.substr(before)).code_point)) break;
                begin = before;
            }
            if (full()) begin = 0;
            parts.add(s.substr(begin));
            s = s.substr(0, begin);
        }
    }
    return parts.take_reversed();
}

std::vector<std::string_view> split_lines(Heap& heap, std::string_view s, bool keep_ends) {
    Parts lines(heap);
    size_t begin = 0;
    for (size_t i = 0; i < s.size();) {
        const Utf8Step step = next_utf8(s.substr(i));
        size_t next = i + step.bytes;
        if (is_line_end(step.code_point)) {
            if (step.code_point == '\r' && next < s.size() && s[next] == '\n') ++next;
            lines.add(s.substr(begin, (keep_ends ? next : i) - begin));
            begin = next;
        }
        i = next;
    }
    if (begin < s.size()) lines.add(s.substr(begin));
    return lines.take();
}

Case case_of(std::string_view s) {
    bool any_lower = false, any_upper = false;
    each_character(s, [&](uint32_t c, size_t, size_t) {
        const Case which = case_of_character(c);
        any_lower = any_lower || which == Case::lower;
        any_upper = any_upper || which == Case::upper || which == Case::mixed;
    });
    if (any_lower && any_upper) return Case::mixed;
    return any_lower ? Case::lower : any_upper ? Case::upper : Case::none;
}

}  // namespace muster::jinja
