// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace muster {

/// Unicode's normalisation form C (UAX #15) of valid UTF-8, in linearithmic time.
std::string to_nfc(std::string_view text);

}  // namespace muster
