// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/trace.h"

#include <fmt/format.h>

#include <ostream>

#include "muster/cli/json_text.h"
#include "muster/cli/outputs.h"
#include "muster/cli/progress_bar.h"
#include "muster/cli/statistics_file.h"
#include "muster/cli/text.h"
#include "muster/core/atomic_file.h"
#include "muster/evaluate/perplexity.h"
#include "muster/evaluate/statistics_sink.h"
#include "muster/evaluate/trace_writer.h"

namespace muster::cli {

int trace_command(const TraceOptions& options, Terminal& terminal) {
    EvaluateOptions evaluate;
    evaluate.policies = parse_policies({options.routing});
    evaluate.max_tokens = options.tokens;
    InputFiles(options.model.model, terminal)
        .add(options.files)
        .add(evaluate.policies)
        .keep_from({options.output, options.stats});
    const auto documents = labelled_documents(options.files, true);
    const Engine engine = load_engine(options.model, options.engine,
                                      {.context = options.window, .exact = true}, terminal);
    evaluate.window = engine.context;
    evaluate.compute = engine.compute;
    evaluate.kv = engine.kv;
    open_plans(evaluate.policies, *engine.model);
    const StatisticsFile stats(options.stats, *engine.model);
    AtomicFile file(options.output);
    TraceWriter writer(*engine.model, evaluate.policies.front(),
                       [&](std::string_view text) { file.write(text); });
    StatisticsSink counted(*engine.model, evaluate.policies.front());
    evaluate.sinks = {&writer};
    if (stats.wanted()) evaluate.sinks.push_back(&counted);
    {
        ProgressBar bar(terminal);
        evaluate.progress = bar.callback();
        evaluate_perplexity(*engine.model, documents, *engine.team, evaluate);
    }
    file.commit();
    stats.add(counted.statistics());
    if (options.json) {
        print_json({{"model", options.model.model},
                    {"routing", evaluate.policies.front().to_string()},
                    {"output", options.output.string()},
                    {"tokens", writer.tokens()},
                    {"bytes", file.size()}},
                   terminal);
    } else {
        terminal.out << fmt::format("{}: {}, {}\n", options.output.string(),
                                    plural(writer.tokens(), "token"),
                                    bytes_text(double(file.size())));
    }
    return 0;
}

}  // namespace muster::cli
