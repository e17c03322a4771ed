// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "muster/cli/inputs.h"

namespace muster::cli {

/// `muster tokenize`: show how a text is cut.
struct TokenizeOptions {
    ModelOptions model;
    TextOptions text;
    bool ids = false;     ///< ids only
    bool no_bos = false;  ///< without the begin token
    bool json = false;
};

/// Throws Error.
int tokenize_command(const TokenizeOptions& options, Terminal& terminal);

}  // namespace muster::cli
