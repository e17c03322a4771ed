// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/atlas.h"

#include <fmt/format.h>

#include <optional>
#include <ostream>

#include "muster/cli/json_text.h"
#include "muster/cli/outputs.h"
#include "muster/cli/progress_bar.h"
#include "muster/cli/statistics_file.h"
#include "muster/cli/text.h"
#include "muster/core/atomic_file.h"
#include "muster/evaluate/statistics_sink.h"
#include "muster/report/atlas_page.h"
#include "muster/routing/activation_plan.h"

namespace muster::cli {
namespace {

/// The plan to show. Throws Error when it is none of this model.
std::optional<AtlasPlan> plan_of(const AtlasOptions& options,
                                 std::span<const RoutingPolicy> policies, Model& model) {
    std::string name = options.plan.string();
    for (const RoutingPolicy& policy : policies)
        if (name.empty() && policy.selection == Selection::plan) name = policy.plan;
    if (name.empty()) return std::nullopt;
    const ActivationPlan plan = read_plan(name);
    if (!model.config().plans.contains(name)) model.add_plan(name, plan);  // checks it
    return atlas_plan(plan, std::filesystem::path(name).filename().string());
}

}  // namespace

int atlas_command(const AtlasOptions& options, Terminal& terminal) {
    EvaluateOptions evaluate;
    evaluate.policies = parse_policies(options.routing);
    evaluate.max_tokens = options.tokens;
    InputFiles(options.model.model, terminal)
        .add(options.files)
        .add(options.plan)
        .add(evaluate.policies)
        .keep_from({options.output, options.stats});
    const auto documents = labelled_documents(options.files, true);
    const Engine engine = load_engine(options.model, options.engine,
                                      {.context = options.window, .exact = true}, terminal);
    evaluate.window = engine.context;
    evaluate.compute = engine.compute;
    evaluate.kv = engine.kv;
    open_plans(evaluate.policies, *engine.model);
    const std::optional<AtlasPlan> plan = plan_of(options, evaluate.policies, *engine.model);
    const StatisticsFile stats(options.stats, *engine.model);
    AtomicFile file(options.output);  // refuses a bad place before the work
    AtlasCollector collector(*engine.model, evaluate.policies.front());
    StatisticsSink counted(*engine.model, evaluate.policies.front());
    evaluate.sinks = {&collector};
    if (stats.wanted()) evaluate.sinks.push_back(&counted);
    EvaluationResult result;
    {
        ProgressBar bar(terminal);
        evaluate.progress = bar.callback();
        result = evaluate_perplexity(*engine.model, documents, *engine.team, evaluate);
    }
    file.write(atlas_html({collector.atlas(), &result, plan ? &*plan : nullptr, MUSTER_VERSION}));
    file.commit();
    stats.add(counted.statistics());
    const auto tokens = static_cast<int64_t>(collector.atlas().tokens());
    if (options.json) {
        print_json({{"model", options.model.model},
                    {"routing", evaluate.policies.front().to_string()},
                    {"output", options.output.string()},
                    {"tokens", tokens},
                    {"bytes", file.size()}},
                   terminal);
    } else {
        terminal.out << fmt::format("{}: {}, {}; open it in a browser\n", options.output.string(),
                                    plural(tokens, "token"), bytes_text(double(file.size())));
    }
    return 0;
}

}  // namespace muster::cli
