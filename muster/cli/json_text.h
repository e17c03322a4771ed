// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "muster/cli/terminal.h"

namespace muster::cli {

using nlohmann::ordered_json;

/// Writes one document, indented, with a line feed. Bytes that are no UTF-8 become U+FFFD.
void print_json(const ordered_json& document, Terminal& terminal);

/// A document that a library's to_json made, to be put into another.
ordered_json parsed(const std::string& json);

}  // namespace muster::cli
