// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/inputs.h"

#include <istream>
#include <iterator>
#include <ostream>
#include <set>

#include "muster/cli/progress_bar.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/routing/activation_plan.h"

namespace muster::cli {

namespace {

/// The shipped file or directory `name`; nothing when it is missing.
std::optional<std::filesystem::path> shipped(const Terminal& terminal, std::string_view name) {
    for (const auto& directory : terminal.data_paths) {
        std::error_code ignored;
        if (std::filesystem::exists(directory / name, ignored)) return directory / name;
    }
    return std::nullopt;
}

std::string places(const Terminal& terminal) {
    std::string text;
    for (const auto& directory : terminal.data_paths)
        text += (text.empty() ? "" : " or ") + directory.string();
    return text.empty() ? "share/muster" : text;
}

}  // namespace

std::filesystem::path find_data(const Terminal& terminal, std::string_view name) {
    if (const auto path = shipped(terminal, name)) return *path;
    throw Error(name, "is missing, expected in " + places(terminal));
}

std::filesystem::path model_path(const std::string& model, const Terminal& terminal) {
    if (model != "default") return model;
    if (const auto path = shipped(terminal, "default.gguf")) return *path;
    throw Error("default model", "default.gguf is missing, expected in " + places(terminal) +
                                     "; any other GGUF file can be named instead");
}

Model load_model(const ModelOptions& options, Terminal& terminal) {
    ProgressBar bar(terminal);
    LoadOptions load;
    load.check_values = !options.no_check;
    load.progress = bar.callback();
    return Model::load(model_path(options.model, terminal), load);
}

std::string read_text(const TextOptions& options, Terminal& terminal) {
    if (options.prompt) return *options.prompt;
    if (!options.file.empty() && options.file != "-") return read_file(options.file);
    if (terminal.in_is_terminal)
        terminal.err << "Type the text; Ctrl-D on an empty line ends it." << std::endl;
    std::string text{std::istreambuf_iterator<char>(terminal.in), {}};
    if (terminal.in.bad()) throw Error("standard input", "cannot be read");
    return text;
}

std::vector<RoutingPolicy> parse_policies(const std::vector<std::string>& texts) {
    std::vector<RoutingPolicy> policies;
    policies.reserve(texts.size());
    for (const std::string& text : texts) policies.push_back(RoutingPolicy::parse(text));
    if (policies.empty()) policies.emplace_back();
    return policies;
}

void open_plans(std::span<const RoutingPolicy> policies, Model& model) {
    std::set<std::string> names;
    for (const RoutingPolicy& policy : policies)
        if (policy.selection == Selection::plan && names.insert(policy.plan).second)
            model.add_plan(policy.plan, read_plan(policy.plan));
}

std::vector<Document> labelled_documents(const std::vector<std::filesystem::path>& files,
                                         bool by_file) {
    if (!by_file) return read_documents(files);
    std::vector<Document> documents;
    for (const auto& file : files) {
        for (Document& document : read_documents({file})) {
            if (document.domain.empty()) document.domain = file.stem().string();
            documents.push_back(std::move(document));
        }
    }
    return documents;
}

}  // namespace muster::cli
