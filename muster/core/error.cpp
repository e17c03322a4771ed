// SPDX-License-Identifier: Apache-2.0
#include "muster/core/error.h"

#include <cstdio>
#include <cstdlib>

namespace muster::internal {

void assertion_failed(const char* expression, const char* file, int line) noexcept {
    std::fprintf(stderr, "muster: internal error: %s does not hold (%s:%d)\n", expression, file,
                 line);
    std::abort();
}

}  // namespace muster::internal
