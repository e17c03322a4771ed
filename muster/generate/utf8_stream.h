// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace muster {

/// Cuts a stream of bytes at characters: holds back the bytes of an unfinished UTF-8 character
/// until the rest arrives. Bytes that can never become a character pass unchanged.
class Utf8Stream {
  public:
    /// Appends bytes and returns what is complete.
    std::string push(std::string_view bytes);
    /// What is still held back (at the end of a text), unchanged.
    std::string flush();

  private:
    std::string held_;
};

}  // namespace muster
