// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "muster/cli/terminal.h"
#include "muster/evaluate/documents.h"
#include "muster/model/model.h"
#include "muster/routing/policy.h"

namespace muster::cli {

/// Which model a command works on, and with how many threads.
struct ModelOptions {
    std::string model;      ///< a GGUF file, or `default`: the shipped model
    int threads = 0;        ///< 0: all the process may use
    bool no_check = false;  ///< do not read every weight once before starting
};

/// Where a command reads its text: -p TEXT, else -f FILE (`-`: standard input), else standard
/// input.
struct TextOptions {
    std::optional<std::string> prompt;
    std::string file;
};

/// The shipped file or directory `name`. Throws Error naming `name` and the places searched.
std::filesystem::path find_data(const Terminal& terminal, std::string_view name);

/// The file that `model` means. Throws Error when the shipped model is meant and missing.
std::filesystem::path model_path(const std::string& model, const Terminal& terminal);

/// Loads with a progress bar. Throws Error.
Model load_model(const ModelOptions& options, Terminal& terminal);

/// Throws Error when the text cannot be read.
std::string read_text(const TextOptions& options, Terminal& terminal);

/// Policies of repeated --routing; one `model` when there are none. Throws Error.
std::vector<RoutingPolicy> parse_policies(const std::vector<std::string>& texts);

/// Gives the model the plans that policies `plan:FILE` name. Throws Error for a file that is no
/// plan of this model.
void open_plans(std::span<const RoutingPolicy> policies, Model& model);

/// The documents of `files`; with `by_file`, each is labelled by its file's name without extension
/// where it has no label of its own. Throws Error.
std::vector<Document> labelled_documents(const std::vector<std::filesystem::path>& files,
                                         bool by_file);

}  // namespace muster::cli
