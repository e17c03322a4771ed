// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/imatrix.h"

#include <fmt/format.h>

#include <chrono>
#include <ostream>

#include "muster/cli/engine.h"
#include "muster/cli/json_text.h"
#include "muster/cli/outputs.h"
#include "muster/cli/progress_bar.h"
#include "muster/cli/text.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/model/importance_collector.h"

namespace muster::cli {
namespace {

constexpr int kInterrupted = 130;
constexpr double kSaveSeconds = 60;  // between two copies of what is done so far

/// The tokens of all texts behind each other.
std::vector<int32_t> read_tokens(const ImatrixOptions& options, const Model& model) {
    std::vector<int32_t> tokens;
    for (const auto& file : options.files) {
        const std::vector<int32_t> ids = model.tokenizer().encode(read_file(file), false);
        tokens.insert(tokens.end(), ids.begin(), ids.end());
    }
    return tokens;
}

ImportanceSums read_earlier(const ImatrixOptions& options) {
    ImportanceSums sums;
    for (const auto& path : options.in_files) sums.add(read_importance_sums(path), path.string());
    return sums;
}

/// Matrices of stacked tensors by where their values come from.
struct Coverage {
    int64_t own = 0, lent = 0, none = 0;
};

Coverage coverage_of(const ImportanceSums& sums) {
    Coverage c;
    for (const auto& [name, entry] : sums.tensors) {
        if (entry.matrices() == 1) continue;
        for (size_t m = 0; m < entry.counts.size(); ++m) {
            const bool lent = !entry.lent_counts.empty() && entry.lent_counts[m] > 0;
            ++(entry.counts[m] > 0 ? c.own : lent ? c.lent : c.none);
        }
    }
    return c;
}

int64_t tensors_with_values(const ImportanceSums& sums) {
    int64_t n = 0;
    for (const auto& [name, entry] : sums.tensors)
        for (size_t m = 0; m < entry.counts.size(); ++m) {
            if (entry.counts[m] == 0) continue;
            ++n;
            break;
        }
    return n;
}

void print_report(const ImatrixOptions& options, const ImportanceSums& sums, Terminal& terminal) {
    const Coverage c = coverage_of(sums);
    terminal.err << fmt::format("{}: {} from {} of up to {} tokens\n", options.output.string(),
                                plural(tensors_with_values(sums), "tensor"),
                                plural(sums.chunks, "chunk"), options.window);
    if (c.own + c.lent + c.none == 0) return;
    terminal.err << fmt::format("experts' matrices: {} with rows of their own", c.own);
    if (c.lent > 0) terminal.err << fmt::format(", {} with rows lent to them", c.lent);
    if (c.none > 0)
        terminal.err << fmt::format(
            ", {} without any: muster quantize takes the mean of the others", c.none);
    terminal.err << std::endl;
}

ordered_json document(const ImatrixOptions& options, const ImportanceSums& sums, int64_t next) {
    const Coverage c = coverage_of(sums);
    return {{"model", options.model.model},
            {"output", options.output.string()},
            {"tensors", tensors_with_values(sums)},
            {"chunks", sums.chunks},
            {"chunk_tokens", options.window},
            {"next_chunk", next},
            {"expert_matrices", {{"own", c.own}, {"lent", c.lent}, {"none", c.none}}}};
}

/// Collects, with progress and copies of the result from time to time. `next` is the chunk to go on
/// with.
ImportanceSums collect(const ImatrixOptions& options, const Engine& engine, Terminal& terminal,
                       int64_t& next) {
    using Clock = std::chrono::steady_clock;
    ImportanceSums sums = read_earlier(options);
    for (const auto& file : options.files) sums.datasets.push_back(file.filename().string());
    sums.chunk_tokens = options.window;
    ImportanceOptions collect;
    collect.window = options.window;
    collect.from_chunk = options.from_chunk;
    collect.most_chunks = options.chunks;
    collect.policy = RoutingPolicy::parse(options.routing);
    collect.process_head = options.process_head;
    collect.compute = engine.compute;
    if (options.own_only) collect.lend_rows = 0;
    ProgressBar bar(terminal);
    const Progress progress = bar.callback();
    auto saved = Clock::now();
    collect.on_chunk = [&](const ImportanceSums& so_far, int64_t done, int64_t total) {
        next = done;
        if (std::chrono::duration<double>(Clock::now() - saved).count() >= kSaveSeconds) {
            write_importance(options.output, so_far);
            saved = Clock::now();
        }
        return progress("chunks", done - options.from_chunk, total - options.from_chunk);
    };
    const std::vector<int32_t> tokens = read_tokens(options, *engine.model);
    collect_importance(*engine.model, *engine.team, tokens, collect, sums);
    return sums;
}

}  // namespace

int imatrix_command(const ImatrixOptions& options, Terminal& terminal) {
    const RoutingPolicy policy = RoutingPolicy::parse(options.routing);
    InputFiles(options.model.model, terminal).add(options.files).keep_from({options.output});
    EngineOptions run;
    run.mmap = true;  // what is multiplied must be seen, which integer products do not show
    run.compute = options.compute;
    run.kv = "f32";
    const Engine engine = load_engine(
        options.model, run, {.context = options.window, .rows = options.window}, terminal);
    open_plans({&policy, 1}, *engine.model);
    int64_t next = options.from_chunk;
    const ImportanceSums sums = collect(options, engine, terminal, next);
    write_importance(options.output, sums);
    if (options.json) {
        print_json(document(options, sums, next), terminal);
    } else {
        print_report(options, sums, terminal);
    }
    if (!terminal.stop()) return 0;
    terminal.err << fmt::format("stopped; to go on: --in-file {} --from-chunk {}",
                                options.output.string(), next)
                 << std::endl;
    return kInterrupted;
}

}  // namespace muster::cli
