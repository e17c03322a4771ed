// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace muster {

/// A regular expression of a pre-tokeniser, as Oniguruma (Hugging Face's tokenizers) reads it and
/// run by PCRE2 with its just-in-time compiler. `\s` is Unicode's White_Space: U+0085 belongs to
/// it, U+FEFF (which JavaScript adds) and U+180E (which PCRE2 adds) do not. Immutable, safe to use
/// from several threads.
///
/// Expressions are untrusted: length, nesting, steps of a search and stack are limited.
class SplitRegex {
  public:
    /// Throws Error, under `where`, naming what cannot be read: syntax, a class inside a class and
    /// `&&` (PCRE2 10.42 has neither), more than 16 KiB.
    SplitRegex(std::string_view pattern, std::string_view where);
    ~SplitRegex();
    SplitRegex(SplitRegex&&) noexcept;
    SplitRegex& operator=(SplitRegex&&) noexcept;

    /// What searches write to; one per thread.
    class Search {
      public:
        Search();
        ~Search();
        Search(const Search&) = delete;
        Search& operator=(const Search&) = delete;

      private:
        friend class SplitRegex;
        struct State;
        std::unique_ptr<State> state_;
    };

    struct Match {
        size_t begin = 0, end = 0;
    };
    /// The leftmost match that begins at `from` or later in `text` (valid UTF-8; `from` at the
    /// start of a character). False: none. Throws Error when the search exceeds its limits.
    bool find(std::string_view text, size_t from, Search& search, Match& match) const;

    const std::string& pattern() const noexcept { return pattern_; }

  private:
    struct Code;
    std::string pattern_;
    std::unique_ptr<Code> code_;
};

}  // namespace muster
