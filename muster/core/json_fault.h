// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace muster {

/// What the library's exception says, without its name and number; of a text that is no JSON, up
/// to where it is any.
inline std::string json_fault(const nlohmann::json::exception& e) {
    if (const auto* parse = dynamic_cast<const nlohmann::json::parse_error*>(&e))
        return "no JSON from byte " + std::to_string(parse->byte) + " on";
    const std::string what = e.what();
    const size_t name = what.find("] ");
    return name == std::string::npos ? what : what.substr(name + 2);
}

}  // namespace muster
