// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <iosfwd>
#include <string>

namespace muster::cli {

/// Lines of a stream, or of a descriptor that may keep its reader waiting, such as a pipe from a
/// client that waits for answers. The stream or descriptor outlives it and is read by nothing else.
/// Not thread-safe.
class BatchInput {
  public:
    enum class Got { line, nothing, end };

    /// Lines are there at once, or read() waits for as long as it takes.
    explicit BatchInput(std::istream& in) : in_(&in) {}
    /// Takes only what is there: poll(2) before each read(2).
    explicit BatchInput(int descriptor) : descriptor_(descriptor) {}

    /// The next line, without its line feed; `nothing` when no whole line came within about
    /// `milliseconds` or a signal came. The last line needs no line feed. Throws Error, naming
    /// `name`, when reading fails.
    Got read(std::string& line, int milliseconds, const std::string& name);

  private:
    bool take(std::string& line);
    Got read_stream(std::string& line, const std::string& name);

    std::istream* in_ = nullptr;
    int descriptor_ = -1;
    std::string buffer_;  ///< read, from `begin_` on not given away yet
    size_t begin_ = 0;
    size_t searched_ = 0;  ///< no line feed between `begin_` and here
    bool ended_ = false;
};

}  // namespace muster::cli
