// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace muster {

/// Text as HTML and XML take it: & < > " escaped, control characters and broken UTF-8 as U+FFFD.
std::string escaped(std::string_view text);

/// `text` with each {{name}} replaced, once, in one pass: what is filled in is not searched again.
/// Names without a value are an assertion.
std::string fill_template(std::string_view text,
                          const std::vector<std::pair<std::string_view, std::string>>& values);

}  // namespace muster
