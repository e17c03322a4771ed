// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "muster/cli/engine.h"
#include "muster/generate/sampler.h"

namespace muster::cli {

/// `muster chat`: a conversation.
struct ChatOptions {
    ModelOptions model;
    EngineOptions engine;
    std::string routing = "model";
    std::string system;          ///< the system message; empty: none
    std::string chat_template;   ///< a file to use instead of the model's template
    std::string color = "none";  ///< `experts` or `none`
    int context = 0;             ///< 0: the model's, or what fits
    int tokens = -1;             ///< most of an answer; -1: until it ends
    SamplerOptions sampler;
    std::optional<uint64_t> seed;  ///< none: drawn
    std::filesystem::path stats;   ///< statistics are added to it; empty: none
    bool quiet = false;            ///< no statistics
};

/// Reads turns until the end of input and writes answers to `out`, statistics and remarks to
/// `err`. Lines that begin with `/` are commands (/help). Ctrl-C ends an answer; at the prompt it
/// forgets the line. Throws Error when the model cannot be loaded or the policy cannot work.
int chat_command(const ChatOptions& options, Terminal& terminal);

}  // namespace muster::cli
