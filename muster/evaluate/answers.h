// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace muster {

/// How answers in text are compared (Rajpurkar et al. 2016, SQuAD's evaluation; Joshi et al. 2017,
/// TriviaQA's): lower case, punctuation and underscores as white space, the words a, an and the
/// left out, white space collapsed. The text is taken as UTF-8.
std::string normalized_answer(std::string_view text);

/// Whether the normalised answer is one of the normalised right ones.
bool exact_match(std::string_view answer, std::span<const std::string> right);

/// The greatest F1 of the words of the normalised answer against a right one, 0 without common
/// words.
double answer_f1(std::string_view answer, std::span<const std::string> right);

}  // namespace muster
