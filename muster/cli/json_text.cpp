// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/json_text.h"

#include <ostream>

namespace muster::cli {

void print_json(const ordered_json& document, Terminal& terminal) {
    terminal.out << document.dump(2, ' ', false, ordered_json::error_handler_t::replace) << '\n';
}

ordered_json parsed(const std::string& json) { return ordered_json::parse(json); }

}  // namespace muster::cli
