// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/eval.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <ostream>

#include "muster/cli/eval_exit_lens.h"
#include "muster/cli/eval_task.h"
#include "muster/cli/json_text.h"
#include "muster/cli/outputs.h"
#include "muster/cli/progress_bar.h"
#include "muster/cli/statistics_file.h"
#include "muster/cli/table.h"
#include "muster/cli/text.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/evaluate/statistics_sink.h"
#include "muster/report/pareto_chart.h"

namespace muster::cli {
namespace {

using Align = Table::Align;

constexpr int kLayersPerRow = 12;  // so that the table stays below 100 columns

EvaluateOptions evaluate_options(const EvalOptions& options) {
    EvaluateOptions evaluate;
    evaluate.policies = parse_policies(options.routing);
    evaluate.window = options.window;
    evaluate.stride = options.stride;
    evaluate.max_tokens = options.tokens;
    evaluate.confidence = checked_confidence(options.confidence);
    return evaluate;
}

void check_chart(const EvalOptions& options) {
    const auto& name = options.chart;
    if (name.empty() || name.extension() == ".svg" || name.extension() == ".html") return;
    throw Error(name.string(), "is no name of a chart, expected one that ends in .svg or .html");
}

/// How many experts a token gets, all layers together: one number where all get as many.
std::string activations_text(const PolicyResult& p) {
    const std::string most = std::to_string(p.most_activations);
    return p.least_activations == p.most_activations
               ? most
               : std::to_string(p.least_activations) + " to " + most;
}

std::string chart_text(const EvalOptions& options, const EvaluationResult& result) {
    const bool page = options.chart.extension() == ".html";
    return page ? pareto_html(result, options.model.model + ": policies") : pareto_svg_file(result);
}

}  // namespace

double checked_confidence(double confidence) {
    if (!(confidence > 0 && confidence < 1))
        throw Error("confidence", fmt::format("{}, expected a share between 0 and 1", confidence));
    return confidence;
}

std::string comparison_table(const EvaluationResult& result, int indent) {
    Table table({{"policy", Align::left},
                 {"perplexity"},
                 {"bits/byte"},
                 {"nats/token against the first"},
                 {"experts"},
                 {"in all"},
                 {"activated"},
                 {"tokens/s"}});
    for (size_t i = 0; i < result.policies.size(); ++i) {
        const PolicyResult& p = result.policies[i];
        table.row({p.policy, significant(p.all.perplexity, 4), significant(p.all.bits_per_byte, 4),
                   i == 0 ? "-" : interval_text(p.difference), significant(p.all.experts),
                   activations_text(p), count_text(p.activated), significant(p.tokens_per_second)});
    }
    return table.render(indent);
}

std::string layers_table(const EvaluationResult& result, int indent) {
    if (result.policies.empty()) return "";
    std::string out;
    const auto layers = static_cast<int>(result.policies.front().experts.size());
    for (int first = 0; first < layers; first += kLayersPerRow) {
        const int last = std::min(layers, first + kLayersPerRow);
        std::vector<Table::Column> columns{{"experts in layer", Align::left}};
        for (int l = first; l < last; ++l) columns.push_back({std::to_string(l)});
        Table table(std::move(columns));
        for (const PolicyResult& p : result.policies) {
            std::vector<std::string> cells{p.policy};
            for (int l = first; l < last; ++l)
                cells.push_back(p.experts[l] > 0 ? significant(p.experts[l]) : "-");
            table.row(std::move(cells));
        }
        out += (first > 0 ? "\n" : "") + table.render(indent);
    }
    return out;
}

std::string domains_table(const EvaluationResult& result, int indent) {
    if (result.policies.empty() || result.policies.front().domains.empty()) return "";
    std::vector<Table::Column> columns{{"perplexity of", Align::left}, {"tokens"}};
    for (const PolicyResult& p : result.policies) columns.push_back({p.policy});
    Table table(std::move(columns));
    const auto& domains = result.policies.front().domains;
    for (size_t d = 0; d < domains.size(); ++d) {
        std::vector<std::string> cells{without_controls(domains[d].domain),
                                       std::to_string(domains[d].all.tokens)};
        for (const PolicyResult& p : result.policies)
            cells.push_back(significant(p.domains[d].all.perplexity, 4));
        table.row(std::move(cells));
    }
    return table.render(indent);
}

int eval_command(const EvalOptions& options, Terminal& terminal) {
    if (!options.task.empty()) return eval_task_command(options, terminal);
    if (options.exit_lens) return exit_lens_command(options, terminal);
    EvaluateOptions evaluate = evaluate_options(options);
    check_chart(options);
    InputFiles(options.model.model, terminal)
        .add(options.files)
        .add(evaluate.policies)
        .keep_from({options.chart, options.stats});
    const auto documents = labelled_documents(options.files, options.by_file);
    const Engine engine = load_engine(options.model, options.engine,
                                      {.context = options.window, .exact = true}, terminal);
    open_plans(evaluate.policies, *engine.model);
    evaluate.window = engine.context;
    evaluate.compute = engine.compute;
    evaluate.kv = engine.kv;
    const StatisticsFile stats(options.stats, *engine.model);
    StatisticsSink counted(*engine.model, evaluate.policies.front());
    if (stats.wanted()) evaluate.sinks.push_back(&counted);
    std::optional<AtomicFile> chart;
    if (!options.chart.empty())
        chart.emplace(options.chart);  // refuses a bad place before the work
    EvaluationResult result;
    {
        ProgressBar bar(terminal);
        evaluate.progress = bar.callback();
        result = evaluate_perplexity(*engine.model, documents, *engine.team, evaluate);
    }
    if (chart) chart->write(chart_text(options, result));
    stats.add(counted.statistics());
    if (chart) chart->commit();
    if (options.json) {
        ordered_json document{{"model", options.model.model},
                              {"compute", compute_name(engine.compute)},
                              {"kv", dtype_info(engine.kv).name}};
        document.update(parsed(to_json(result)));
        print_json(document, terminal);
        return 0;
    }
    const int64_t tokens = result.policies.front().all.tokens;
    terminal.out << fmt::format(
                        "{} scored in {}; {}; computed in {}; {:.0f} % intervals over {}\n\n",
                        plural(tokens, "token"), plural(result.documents, "document"),
                        plural(result.threads, "thread"), compute_name(engine.compute),
                        100 * options.confidence, units_text(result.units, result.unit))
                 << comparison_table(result) << '\n'
                 << layers_table(result);
    const std::string domains = domains_table(result);
    if (!domains.empty()) terminal.out << '\n' << domains;
    return 0;
}

}  // namespace muster::cli
