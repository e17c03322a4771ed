// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/added_tokens.h"

#include <utf8proc.h>

#include <algorithm>
#include <unordered_map>

#include "muster/tokenizer/utf8.h"

namespace muster {
namespace {

bool is_space(uint32_t c) noexcept {
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

/// Letters, marks, digits and connectors: what \w means to the original.
bool in_word(uint32_t c) noexcept {
    switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
        case UTF8PROC_CATEGORY_LU:
        case UTF8PROC_CATEGORY_LL:
        case UTF8PROC_CATEGORY_LT:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_LO:
        case UTF8PROC_CATEGORY_MN:
        case UTF8PROC_CATEGORY_MC:
        case UTF8PROC_CATEGORY_ME:
        case UTF8PROC_CATEGORY_ND:
        case UTF8PROC_CATEGORY_PC:
            return true;
        default:
            return false;
    }
}

/// The character that ends at `end` > 0, and its first byte.
Utf8Step before(std::string_view text, size_t end, size_t& begin) noexcept {
    begin = end - 1;
    while (begin > 0 && end - begin < 4 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) {
        --begin;
    }
    const Utf8Step step = next_utf8(text.substr(begin, end - begin));
    if (step.bytes == end - begin) return step;
    begin = end - 1;
    return {0xFFFD, 1, false};
}

}  // namespace

AddedTokens::AddedTokens(const Vocabulary& vocabulary) : by_first_(256) {
    std::unordered_map<int32_t, AddedTokenRule> rules;
    for (const AddedTokenRule& rule : vocabulary.added) rules.emplace(rule.id, rule);
    for (int32_t id = 0; id < vocabulary.size(); ++id) {
        const auto at = static_cast<size_t>(id);
        const TokenType type = vocabulary.types[at];
        const bool user = type == TokenType::user_defined;
        if (!user && type != TokenType::control && type != TokenType::unknown) continue;
        const std::string_view text = vocabulary.pieces[at];
        const auto rule = rules.find(id);
        const auto first = static_cast<uint8_t>(text[0]);
        by_first_[first].push_back(
            {text, rule == rules.end() ? AddedTokenRule{.id = id} : rule->second, user});
        begins_[0][first] = true;
        begins_[1][first] |= user;
        ++all_;
        user_ += user;
    }
    for (auto& list : by_first_) {
        std::stable_sort(list.begin(), list.end(), [](const Entry& a, const Entry& b) {
            return a.text.size() > b.text.size();
        });
    }
}

const AddedTokens::Entry* AddedTokens::longest(std::string_view text, size_t at,
                                               bool special) const noexcept {
    const std::string_view rest = text.substr(at);
    for (const Entry& entry : by_first_[static_cast<uint8_t>(rest[0])]) {
        if ((entry.user || special) && rest.starts_with(entry.text)) return &entry;
    }
    return nullptr;
}

bool AddedTokens::find(std::string_view text, size_t from, bool special, Match& match) const {
    const bool* begins = begins_[special ? 0 : 1];
    for (size_t at = from; at < text.size(); ++at) {
        if (!begins[static_cast<uint8_t>(text[at])]) continue;
        const Entry* entry = longest(text, at, special);
        if (entry == nullptr) continue;
        match = {at, at + entry->text.size(), entry->rule.id};
        size_t begin = 0;
        if (entry->rule.single_word &&
            ((at > 0 && in_word(before(text, at, begin).code_point)) ||
             (match.end < text.size() && in_word(next_utf8(text.substr(match.end)).code_point)))) {
            at = match.end - 1;
            continue;
        }
        while (entry->rule.lstrip && match.begin > from &&
               is_space(before(text, match.begin, begin).code_point)) {
            match.begin = std::max(begin, from);
        }
        while (entry->rule.rstrip && match.end < text.size()) {
            const Utf8Step step = next_utf8(text.substr(match.end));
            if (!is_space(step.code_point)) break;
            match.end += step.bytes;
        }
        return true;
    }
    return false;
}

}  // namespace muster
