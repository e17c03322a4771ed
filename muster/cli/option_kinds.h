// SPDX-License-Identifier: Apache-2.0
// The kinds of options that commands share. For options*.cpp only: it includes CLI11.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <string>
#include <vector>

#include "muster/cli/options.h"

namespace muster::cli {

inline void choices(CLI::Option* option, const std::vector<std::string>& words) {
    std::string joined;
    for (const auto& word : words) joined += (joined.empty() ? "" : "|") + word;
    option->type_name(joined)->check([words, joined](const std::string& value) {
        const bool known = std::find(words.begin(), words.end(), value) != words.end();
        return known ? std::string() : "\"" + value + "\" is not one of " + joined;
    });
}

/// A whole number within bounds, without CLI11's range in the help text.
template <typename T>
CLI::Option* whole(CLI::App* app, const std::string& names, T& value, int64_t low, int64_t high,
                   const std::string& help) {
    return app->add_option(names, value, help)
        ->type_name("N")
        ->check([low, high](const std::string& text) {
            int64_t n = 0;
            const bool good = CLI::detail::lexical_cast(text, n) && n >= low && n <= high;
            return good ? std::string()
                        : "\"" + text + "\" is not a whole number from " + std::to_string(low) +
                              " to " + std::to_string(high);
        });
}

/// CLI11 would take -1 for the largest number.
inline std::string check_seed(const std::string& text) {
    uint64_t seed = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seed);
    const bool good = error == std::errc() && end == text.data() + text.size();
    return good ? std::string() : "\"" + text + "\" is not a whole number of 64 bits";
}

template <typename T>
void seed_option(CLI::App* app, T& seed, const std::string& help) {
    app->add_option("--seed", seed, help)->type_name("N")->check(check_seed);
}

inline void json_flag(CLI::App* app, bool& json) {
    app->add_flag("--json", json, "Print one JSON document (keys: docs/cli.md)");
}

inline void model_options(CLI::App* app, ModelOptions& options) {
    app->add_option("MODEL", options.model,
                    "A GGUF file, a directory, or default: the shipped model")
        ->required()
        ->type_name("MODEL");
    whole(app, "--threads", options.threads, 1, 1024, "Threads (all that the process may use)");
    app->add_flag("--no-check", options.no_check,
                  "Start at once, without looking for damaged weights");
}

inline void engine_options(CLI::App* app, EngineOptions& options, const std::string& automatic) {
    app->add_flag("--mmap", options.mmap,
                  "Use weights where they lie in the file: instant start, slower, as much memory");
    choices(app->add_option("--compute", options.compute,
                            "How products are computed (auto: " + automatic + ")"),
            {"auto", "int8", "bf16", "f32"});
    choices(
        app->add_option("--kv", options.kv, "Format of keys and values (auto: f16, f32 under f32)"),
        {"auto", "f32", "f16", "q8_0"});
}

inline void text_options(CLI::App* app, TextOptions& options) {
    auto* prompt = app->add_option("-p,--prompt", options.prompt, "The text itself");
    app->add_option("-f,--file", options.file, "Read the text from a file (-: standard input)")
        ->type_name("FILE")
        ->excludes(prompt);
}

inline void routing_option(CLI::App* app, std::vector<std::string>& routing) {
    app->add_option("--routing", routing,
                    "model, top-k:2, top-p:0.5, mean:3 ... (docs/routing.md); may repeat")
        ->type_name("POLICY")
        ->take_all()
        ->allow_extra_args(false);
}

/// A file that the command writes.
template <typename T>
CLI::Option* output_file(CLI::App* app, const std::string& names, T& file,
                         const std::string& help) {
    return app->add_option(names, file, help)
        ->type_name("FILE")
        ->check([](const std::string& name) {
            return name.empty() ? std::string("a file without a name cannot be written")
                                : std::string();
        });
}

/// Of commands that can keep counts of what experts did.
inline void stats_option(CLI::App* app, std::filesystem::path& file) {
    output_file(app, "--stats", file, "Add the experts' counts, weights and losses to this file");
}

/// Of commands that score texts and show what happened.
template <typename Options>
void scoring_options(CLI::App* c, Options& o) {
    c->add_option("TEXT", o.files, "Text files, or .jsonl with \"text\" and \"domain\"")
        ->required()
        ->type_name("FILE");
    whole(c, "--window", o.window, 2, INT32_MAX, "Tokens of a window (the model's context)");
    whole(c, "--tokens", o.tokens, 1, INT64_MAX, "Stop after so many tokens (all)");
    stats_option(c, o.stats);
}

// options_look.cpp: commands that look at models and at what they do.
CLI::App* add_inspect(CLI::App& app, InspectOptions& o);
CLI::App* add_bench(CLI::App& app, BenchOptions& o);
CLI::App* add_tokenize(CLI::App& app, TokenizeOptions& o);
CLI::App* add_trace(CLI::App& app, TraceOptions& o);
CLI::App* add_atlas(CLI::App& app, AtlasOptions& o);
CLI::App* add_stats(CLI::App& app, StatsOptions& o);

}  // namespace muster::cli
