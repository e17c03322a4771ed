// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace muster {

/// Looks for stop strings in a stream of text: holds back what may be the beginning of one.
class StopStrings {
  public:
    /// Empty strings are no stop strings.
    explicit StopStrings(std::vector<std::string> strings);

    /// Appends text and returns what can be shown. After a stop string was met, what stands before
    /// its first occurrence, and met() holds.
    std::string push(std::string text);
    /// What is still held back, when no stop string was met; nothing otherwise.
    std::string flush();
    bool met() const noexcept { return met_; }

  private:
    std::vector<std::string> strings_;
    std::string held_;
    bool met_ = false;
};

}  // namespace muster
