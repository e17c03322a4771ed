// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>
#include <string>
#include <variant>

#include "muster/cli/batch.h"
#include "muster/cli/bench.h"
#include "muster/cli/chat.h"
#include "muster/cli/completion.h"
#include "muster/cli/convert.h"
#include "muster/cli/demo.h"
#include "muster/cli/eval.h"
#include "muster/cli/export.h"
#include "muster/cli/imatrix.h"
#include "muster/cli/inspect.h"
#include "muster/cli/quantize.h"
#include "muster/cli/run.h"
#include "muster/cli/tokenize.h"
#include "muster/cli/train.h"

namespace muster::cli {

using CommandOptions =
    std::variant<RunOptions, ChatOptions, BatchOptions, EvalOptions, InspectOptions, BenchOptions,
                 TokenizeOptions, ExportOptions, ConvertOptions, QuantizeOptions, ImatrixOptions,
                 TrainOptions, DemoOptions, CompletionOptions>;

/// What a command line asks for: a command, or help and version text, or it is wrong.
struct CommandLine {
    std::optional<CommandOptions> command;
    std::string text;          ///< to be printed when there is no command
    bool usage_error = false;  ///< `text` is one sentence that says what is wrong
};

/// Reads the words after the program's name. Never throws on bad words.
CommandLine parse_command_line(std::span<const std::string> words);

/// All commands with their options, for completion.
CommandInfo command_tree();

}  // namespace muster::cli
