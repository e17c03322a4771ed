// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/outputs.h"

#include <algorithm>
#include <system_error>

#include "muster/checkpoint/gguf.h"
#include "muster/cli/inputs.h"
#include "muster/core/error.h"

namespace muster::cli {
namespace {

namespace fs = std::filesystem;

/// Whether both names mean one file, be it there or not.
bool same_file(const fs::path& a, const fs::path& b) {
    std::error_code ignored;
    if (fs::equivalent(a, b, ignored)) return true;
    const fs::path x = fs::weakly_canonical(a, ignored), y = fs::weakly_canonical(b, ignored);
    return !x.empty() && x == y;
}

/// A file of a model's directory that is there and belongs to the model.
bool inside(const fs::path& file, const fs::path& directory) {
    constexpr std::string_view kNames[] = {"config.json",         "generation_config.json",
                                           "tokenizer.json",      "tokenizer_config.json",
                                           "tokenizer.model",     "model.safetensors.index.json",
                                           "chat_template.jinja", "special_tokens_map.json"};
    std::error_code ignored;
    return fs::exists(file, ignored) && same_file(fs::absolute(file).parent_path(), directory) &&
           (file.extension() == ".safetensors" ||
            std::ranges::find(kNames, file.filename().string()) != std::end(kNames));
}

}  // namespace

InputFiles::InputFiles(const std::string& model, const Terminal& terminal) {
    std::error_code ignored;
    const fs::path path = model_path(model, terminal);
    if (fs::is_directory(path, ignored)) {
        directories_.push_back(path);
        return;
    }
    files_ = split_parts(path);
}

InputFiles& InputFiles::add(const fs::path& file) {
    if (!file.empty() && file != "-") files_.push_back(file);
    return *this;
}

InputFiles& InputFiles::add(const std::vector<fs::path>& files) {
    for (const fs::path& file : files) add(file);
    return *this;
}

InputFiles& InputFiles::add(const std::vector<RoutingPolicy>& policies) {
    for (const RoutingPolicy& policy : policies)
        if (policy.selection == Selection::plan) add(fs::path(policy.plan));
    return *this;
}

bool InputFiles::has(const fs::path& file) const {
    return std::ranges::any_of(files_, [&](const fs::path& f) { return same_file(f, file); }) ||
           std::ranges::any_of(directories_, [&](const fs::path& d) { return inside(file, d); });
}

void InputFiles::keep_from(const std::vector<fs::path>& outputs) const {
    for (size_t i = 0; i < outputs.size(); ++i) {
        if (outputs[i].empty()) continue;
        if (has(outputs[i]))
            throw Error(outputs[i].string(),
                        "is read by the same command, expected another file to write");
        for (size_t j = 0; j < i; ++j)
            if (!outputs[j].empty() && same_file(outputs[i], outputs[j]))
                throw Error(outputs[i].string(), "is both outputs, expected a file for each");
    }
}

}  // namespace muster::cli
