// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/eval_task.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <ostream>

#include "muster/cli/json_text.h"
#include "muster/cli/outputs.h"
#include "muster/cli/progress_bar.h"
#include "muster/cli/table.h"
#include "muster/cli/text.h"
#include "muster/core/atomic_file.h"
#include "muster/evaluate/task_evaluation.h"

namespace muster::cli {
namespace {

using Align = Table::Align;

std::vector<TaskItem> items_of(const Task& task, const EvalOptions& options) {
    std::vector<TaskItem> items = read_task(task, options.files);
    if (options.items > 0 && static_cast<size_t>(options.items) < items.size())
        items.resize(static_cast<size_t>(options.items));
    if (options.shots > 0) add_shots(items, read_task(task, {options.shots_file}), options.shots);
    return items;
}

const MetricResult& usual(const std::vector<MetricResult>& metrics, const std::string& name) {
    return *std::find_if(metrics.begin(), metrics.end(),
                         [&](const MetricResult& m) { return m.name == name; });
}

std::string value_text(double value) {
    return std::isfinite(value) ? fmt::format("{:.4f}", value) : "-";
}

std::string comparison(const TaskResult& result) {
    Table table({{"policy", Align::left},
                 {result.metric},
                 {"against the first"},
                 {"experts"},
                 {"activated"},
                 {"items/s"}});
    for (size_t i = 0; i < result.policies.size(); ++i) {
        const TaskPolicyResult& p = result.policies[i];
        const MetricResult& m = usual(p.metrics, result.metric);
        table.row({p.policy,
                   fmt::format("{} [{}, {}]", value_text(m.value.mean), value_text(m.value.low),
                               value_text(m.value.high)),
                   i == 0 ? "-" : interval_text(m.difference), significant(p.mean_experts),
                   count_text(p.activated),
                   significant(static_cast<double>(result.items) / p.seconds)});
    }
    return table.render();
}

/// All metrics of every policy.
std::string all_metrics(const TaskResult& result) {
    std::vector<Table::Column> columns{{"policy", Align::left}};
    bool perplexity = false;
    for (const MetricResult& m : result.policies.front().metrics) {
        columns.push_back({m.name});
        perplexity |= m.name == "nats";
    }
    if (perplexity) columns.push_back({"perplexity"});
    Table table(std::move(columns));
    for (const TaskPolicyResult& p : result.policies) {
        std::vector<std::string> cells{p.policy};
        for (const MetricResult& m : p.metrics) cells.push_back(value_text(m.value.mean));
        if (perplexity)
            cells.push_back(significant(std::exp(usual(p.metrics, "nats").value.mean), 4));
        table.row(std::move(cells));
    }
    return table.render();
}

/// The usual metric of every group; empty without labels.
std::string groups(const TaskResult& result) {
    if (result.policies.front().groups.empty()) return "";
    std::vector<Table::Column> columns{{result.metric + " of", Align::left}, {"items"}};
    for (const TaskPolicyResult& p : result.policies) columns.push_back({p.policy});
    Table table(std::move(columns));
    for (size_t g = 0; g < result.policies.front().groups.size(); ++g) {
        const TaskGroup& first = result.policies.front().groups[g];
        std::vector<std::string> cells{without_controls(first.name), std::to_string(first.items)};
        for (const TaskPolicyResult& p : result.policies)
            cells.push_back(value_text(usual(p.groups[g].metrics, result.metric).value.mean));
        table.row(std::move(cells));
    }
    return table.render();
}

void print(const TaskResult& result, const EvalOptions& options, const Engine& engine,
           Terminal& terminal) {
    terminal.out << fmt::format("{} of {}", plural(result.items, "item"), result.task);
    if (options.shots > 0) terminal.out << fmt::format(" after {}", plural(options.shots, "shot"));
    if (result.cut > 0) terminal.out << fmt::format(", {} of them cut to the context", result.cut);
    terminal.out << fmt::format("; {}; computed in {}; {:.0f} % intervals over items\n\n",
                                plural(result.threads, "thread"), compute_name(engine.compute),
                                100 * options.confidence)
                 << comparison(result) << '\n'
                 << all_metrics(result);
    const std::string by_group = groups(result);
    if (!by_group.empty()) terminal.out << '\n' << by_group;
    for (const TaskPolicyResult& p : result.policies)
        if (p.speeds_missed > 0)
            terminal.out << fmt::format("\nin {} of {}: {}\n", p.speeds_missed,
                                        plural(result.items, "answer"), p.speed_note);
}

}  // namespace

int eval_task_command(const EvalOptions& options, Terminal& terminal) {
    const Task& task = find_task(options.task);
    TaskOptions evaluate;
    evaluate.policies = parse_policies(options.routing);
    evaluate.confidence = checked_confidence(options.confidence);
    InputFiles(options.model.model, terminal)
        .add(options.files)
        .add(options.shots_file)
        .add(evaluate.policies)
        .keep_from({options.records});
    const std::vector<TaskItem> items = items_of(task, options);
    std::optional<AtomicFile> records;
    if (!options.records.empty()) {
        records.emplace(options.records);
        evaluate.on_record = [&](const TaskRecord& r) { records->write(to_json(r) + "\n"); };
    }
    const int caches = task.kind == TaskKind::answers ? evaluate.sequences : 1;
    const Engine engine =
        load_engine(options.model, options.engine,
                    {.context = options.window, .sequences = caches, .exact = true}, terminal);
    open_plans(evaluate.policies, *engine.model);
    evaluate.window = engine.context;
    evaluate.compute = engine.compute;
    evaluate.kv = engine.kv;
    TaskResult result;
    {
        ProgressBar bar(terminal);
        evaluate.progress = bar.callback();
        result = evaluate_task(*engine.model, task, items, *engine.team, evaluate);
    }
    if (records) records->commit();
    if (!options.json) {
        print(result, options, engine, terminal);
        return 0;
    }
    ordered_json document{{"model", options.model.model},
                          {"compute", compute_name(engine.compute)},
                          {"kv", dtype_info(engine.kv).name},
                          {"shots", options.shots}};
    document.update(parsed(to_json(result)));
    print_json(document, terminal);
    return 0;
}

}  // namespace muster::cli
