// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace muster {

/// Long work reports here: what it does, how much is done of how much (0: unknown). Called from the
/// working thread; drawing belongs to the programs. Returning false asks the work to stop early.
using Progress = std::function<bool(std::string_view what, int64_t done, int64_t total)>;

}  // namespace muster
