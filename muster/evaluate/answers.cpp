// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/answers.h"

#include <algorithm>
#include <map>
#include <vector>

#include "muster/tokenizer/jinja_text.h"
#include "muster/tokenizer/utf8.h"

namespace muster {
namespace {

/// ASCII punctuation with the underscore, and the quotation marks of TriviaQA's evaluation.
bool is_punctuation(uint32_t c) {
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~') || c == 0x2018 || c == 0x2019 || c == 0xB4;
}

/// Words of the normalised text.
std::vector<std::string> words_of(std::string_view text) {
    const std::string lower = jinja::lower(to_valid_utf8(text));
    std::vector<std::string> words(1);
    for (std::string_view rest = lower; !rest.empty();) {
        const Utf8Step step = next_utf8(rest);
        if (is_punctuation(step.code_point) || jinja::is_space(step.code_point)) {
            if (!words.back().empty()) words.emplace_back();
        } else {
            words.back().append(rest.substr(0, step.bytes));
        }
        rest.remove_prefix(step.bytes);
    }
    std::erase_if(words, [](const std::string& w) {
        return w.empty() || w == "a" || w == "an" || w == "the";
    });
    return words;
}

double f1(const std::vector<std::string>& answer, const std::vector<std::string>& right) {
    std::map<std::string_view, int> left;
    for (const std::string& word : right) ++left[word];
    double common = 0;
    for (const std::string& word : answer)
        if (const auto at = left.find(word); at != left.end() && at->second-- > 0) ++common;
    if (common == 0) return 0;
    // 2 p r / (p + r) with p = common / answer, r = common / right.
    return 2 * common / static_cast<double>(answer.size() + right.size());
}

}  // namespace

std::string normalized_answer(std::string_view text) {
    std::string out;
    for (const std::string& word : words_of(text)) out += (out.empty() ? "" : " ") + word;
    return out;
}

bool exact_match(std::string_view answer, std::span<const std::string> right) {
    const auto words = words_of(answer);
    return std::any_of(right.begin(), right.end(),
                       [&](const std::string& r) { return words_of(r) == words; });
}

double answer_f1(std::string_view answer, std::span<const std::string> right) {
    const auto words = words_of(answer);
    double best = 0;
    for (const std::string& r : right) best = std::max(best, f1(words, words_of(r)));
    return best;
}

}  // namespace muster
