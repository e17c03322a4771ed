// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "muster/tokenizer/tokenizer.h"

namespace muster {

/// Finds the control and user-defined tokens that stand in text. Immutable, safe to use from
/// several threads.
class AddedTokens {
  public:
    /// Of a checked vocabulary, which the caller keeps alive and unchanged.
    explicit AddedTokens(const Vocabulary& vocabulary);

    /// Bytes [begin, end) of the text are the token `id`, white space that it takes included.
    struct Match {
        size_t begin, end;
        int32_t id;
    };
    /// The leftmost token at `from` or later, the longest of those that begin there. Control (and
    /// unknown) tokens only with `special`. False: none.
    bool find(std::string_view text, size_t from, bool special, Match& match) const;

    bool empty(bool special) const noexcept { return special ? all_ == 0 : user_ == 0; }

  private:
    struct Entry {
        std::string_view text;
        AddedTokenRule rule;
        bool user;
    };
    const Entry* longest(std::string_view text, size_t at, bool special) const noexcept;

    std::vector<std::vector<Entry>> by_first_;  ///< [256] by first byte, longest first
    bool begins_[2][256] = {};                  ///< [user tokens only][first byte]
    size_t all_ = 0, user_ = 0;
};

}  // namespace muster
