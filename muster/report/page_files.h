// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace muster {

/// The content of a file of muster/report/page/, embedded when the program was built; empty when
/// there is none of this name.
std::string_view page_file(std::string_view name) noexcept;

}  // namespace muster
