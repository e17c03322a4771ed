// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "muster/tokenizer/split_regex.h"
#include "muster/tokenizer/tokenizer.h"

namespace muster {

/// Cuts text into words, between which nothing merges: each rule in turn cuts what the rules before
/// it left. Immutable, safe to use from several threads.
class PreTokenizer {
  public:
    /// Throws Error, under `where`, when there are more than 16 rules or one cannot be read.
    PreTokenizer(const std::vector<SplitRule>& rules, std::string_view where);

    /// Calls `word` with each word of `text` (valid UTF-8) in order; none is empty. Throws Error
    /// when a pattern exceeds its limits on this text.
    void split(std::string_view text, SplitRegex::Search& search,
               const std::function<void(std::string_view)>& word) const;

  private:
    void split(size_t rule, std::string_view text, SplitRegex::Search& search,
               const std::function<void(std::string_view)>& word) const;

    std::vector<SplitRule> rules_;
    std::vector<SplitRegex> patterns_;
};

/// What a value of tokenizer.ggml.pre means.
struct NamedSplit {
    std::string_view name;
    std::vector<std::string_view> patterns;  ///< each isolates its matches
    bool ignore_merges = false;
    bool add_bos = false;  ///< where the file does not say
    bool nfc = false;      ///< the family's tokenizer.json normalises so; llama.cpp does not
};

/// nullptr: unknown name.
const NamedSplit* named_split(std::string_view name);

/// All names, separated by commas.
std::string split_names();

/// The rules of a name.
std::vector<SplitRule> rules_of(const NamedSplit& named);

/// The name whose rules cut as these do, of several the one with these flags; empty: none.
std::string_view name_of_rules(const std::vector<SplitRule>& rules, bool ignore_merges, bool nfc);

/// GPT-2's pattern (Radford et al. 2019), which Hugging Face's ByteLevel applies with use_regex.
std::string_view gpt2_pattern() noexcept;

}  // namespace muster
