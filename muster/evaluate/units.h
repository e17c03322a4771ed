// SPDX-License-Identifier: Apache-2.0
// What the bootstraps of evaluations draw: documents, or blocks of tokens where documents are few.
#pragma once

#include <cstddef>
#include <string>

namespace muster {

inline constexpr size_t kFewDocuments = 20;  ///< below, blocks are drawn
inline constexpr size_t kBlockTokens = 256;

/// In plural, for results.
inline std::string unit_name(bool blocks) {
    return blocks ? "blocks of " + std::to_string(kBlockTokens) + " tokens" : "documents";
}

}  // namespace muster
