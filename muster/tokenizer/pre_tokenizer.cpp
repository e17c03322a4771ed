// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/pre_tokenizer.h"

#include "muster/core/error.h"

namespace muster {
namespace {

constexpr size_t kMaxRules = 16;

}  // namespace

PreTokenizer::PreTokenizer(const std::vector<SplitRule>& rules, std::string_view where)
    : rules_(rules) {
    if (rules.size() > kMaxRules) {
        throw Error(where, "the pre-tokenizer has " + std::to_string(rules.size()) +
                               " rules, expected at most " + std::to_string(kMaxRules));
    }
    patterns_.reserve(rules.size());
    for (const SplitRule& rule : rules) patterns_.emplace_back(rule.pattern, where);
}

void PreTokenizer::split(std::string_view text, SplitRegex::Search& search,
                         const std::function<void(std::string_view)>& word) const {
    split(0, text, search, word);
}

void PreTokenizer::split(size_t rule, std::string_view text, SplitRegex::Search& search,
                         const std::function<void(std::string_view)>& word) const {
    if (text.empty()) return;
    if (rule == rules_.size()) return word(text);
    const bool keep_others = rules_[rule].keep == SplitRule::Keep::all;
    size_t done = 0;
    for (size_t from = 0; from < text.size();) {
        SplitRegex::Match match;
        if (!patterns_[rule].find(text, from, search, match)) break;
        if (match.end < match.begin || match.begin < from || match.begin >= text.size()) break;
        if (keep_others && match.begin > done) {
            split(rule + 1, text.substr(done, match.begin - done), search, word);
        }
        split(rule + 1, text.substr(match.begin, match.end - match.begin), search, word);
        done = match.end;
        from = match.end;
        if (match.end > match.begin) continue;
        // An empty match is a cut; go on behind the character that follows it.
        do {
            ++from;
        } while (from < text.size() && (static_cast<uint8_t>(text[from]) & 0xC0) == 0x80);
    }
    if (keep_others && done < text.size()) split(rule + 1, text.substr(done), search, word);
}

}  // namespace muster
