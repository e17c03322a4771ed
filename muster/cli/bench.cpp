// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>

#include "muster/cli/json_text.h"
#include "muster/cli/peak_flops.h"
#include "muster/cli/progress_bar.h"
#include "muster/cli/table.h"
#include "muster/cli/text.h"
#include "muster/core/thread_team.h"
#include "muster/evaluate/speed.h"

namespace muster::cli {
namespace {

using Align = Table::Align;

/// Floating-point operations of one prefilled token: two per weight used, and attention's products
/// with the keys and values before it. The head works on the last token only and is left out.
double prefill_flops(const ModelConfig& config, const BenchOptions& options, double experts) {
    const ParameterCounts counts = count_parameters(config);
    std::vector<double> per_layer;
    per_layer.reserve(config.layers.size());
    for (const FeedForwardConfig& layer : config.layers)
        per_layer.push_back(layer.dense() ? 1 : std::min(experts, double(layer.experts())));
    const double positions = options.depth + options.prompt / 2.0;
    const double attention = 4.0 * positions * config.heads * config.head_dim;
    return 2 * counts.activated(per_layer) + attention * config.num_layers();
}

double share(double part, double whole) { return whole > 0 ? part / whole : 0; }

std::string rate_text(const Rate& rate) {
    return fmt::format("{} ({} to {})", significant(rate.median), significant(rate.low),
                       significant(rate.high));
}

std::string text_report(const SpeedReport& report, const std::vector<double>& flops, double peak) {
    Table table({{"policy", Align::left},
                 {"prefill tokens/s"},
                 {"of peak"},
                 {"decode tokens/s"},
                 {"experts"},
                 {"per token"},
                 {"of memory"}});
    for (size_t i = 0; i < report.results.size(); ++i) {
        const SpeedResult& r = report.results[i];
        table.row({r.policy, rate_text(r.prefill),
                   fmt::format("{:.0f} %", 100 * share(flops[i] * r.prefill.median, peak)),
                   rate_text(r.decode), significant(r.experts), bytes_text(r.bytes_per_token),
                   fmt::format("{:.0f} %",
                               100 * share(r.bytes_per_second, report.memory_bytes_per_second))});
    }
    return table.render();
}

/// One line; empty where one number of experts was measured.
std::string cost_text(const SpeedReport& report) {
    const std::optional<DecodeCost> cost = decode_cost(report.results);
    if (!cost) return "";
    return fmt::format(
        "\ndecoding takes {} us and {} us for one expert in every layer; policies deviate from "
        "that "
        "by {:.1f} % at most\n",
        significant(1e6 * cost->fixed_seconds), significant(1e6 * cost->expert_seconds),
        100 * cost->worst_deviation);
}

}  // namespace

int bench_command(const BenchOptions& options, Terminal& terminal) {
    SpeedOptions speed;
    speed.policies = parse_policies(options.routing);
    speed.prompt_tokens = options.prompt;
    speed.decode_tokens = options.decode;
    speed.depth = options.depth;
    speed.repeats = options.repeats;
    speed.seed = options.seed;
    const int64_t tokens = int64_t{options.depth} + options.prompt + options.decode;
    const auto context = static_cast<int>(std::min<int64_t>(tokens, INT32_MAX));
    const Engine engine =
        load_engine(options.model, options.engine, {.context = context}, terminal);
    open_plans(speed.policies, *engine.model);
    const Model& model = *engine.model;
    ThreadTeam& team = *engine.team;
    speed.compute = engine.compute;
    speed.kv = engine.kv;

    SpeedReport report;
    double peak = measure_peak_flops(team);
    {
        ProgressBar bar(terminal);
        speed.progress = bar.callback();
        report = measure_speed(model, team, speed);
    }
    peak = std::max(peak, measure_peak_flops(team));
    std::vector<double> flops;
    flops.reserve(report.results.size());
    for (const SpeedResult& r : report.results)
        flops.push_back(prefill_flops(model.config(), options, r.experts));

    if (options.json) {
        ordered_json document{
            {"model", options.model.model},     {"prompt_tokens", options.prompt},
            {"decode_tokens", options.decode},  {"depth", options.depth},
            {"repeats", options.repeats},       {"compute", compute_name(engine.compute)},
            {"kv", dtype_info(engine.kv).name}, {"peak_f32_flops", peak},
            {"prefill_flops_per_token", flops}};
        document.update(parsed(to_json(report)));
        print_json(document, terminal);
        return 0;
    }
    terminal.out << fmt::format(
                        "{} prompt tokens, {} decoded, {} before them; median (lowest to highest) "
                        "of {}\n{}, {}, computed in {}; limits measured in this run: reading {}/s, "
                        "f32 {}FLOP/s\n\n",
                        options.prompt, options.decode, options.depth,
                        plural(options.repeats, "run"), plural(report.threads, "thread"),
                        report.isa, compute_name(engine.compute),
                        bytes_text(report.memory_bytes_per_second), count_text(peak))
                 << text_report(report, flops, peak) << cost_text(report)
                 << "\nof peak: operations of the prefill against f32 multiply-adds on registers\n"
                    "of memory: weights read while decoding against reading alone\n";
    return 0;
}

}  // namespace muster::cli
