// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace muster {

/// A user's or a file's error. The message reads `[where] what is wrong, what was expected`.
/// Thrown by checked entries, caught once in the programs and bindings.
class Error : public std::runtime_error {
  public:
    Error(std::string_view where, std::string_view what)
        : std::runtime_error("[" + std::string(where) + "] " + std::string(what)) {}
};

namespace internal {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line) noexcept;
}

}  // namespace muster

/// A programmer's error: prints the place to standard error and aborts. Never for input.
#define MUSTER_ASSERT(expression) \
    ((expression) ? void(0) : ::muster::internal::assertion_failed(#expression, __FILE__, __LINE__))
