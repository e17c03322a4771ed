// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/tune.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <optional>
#include <ostream>

#include "muster/cli/eval.h"
#include "muster/cli/json_text.h"
#include "muster/cli/outputs.h"
#include "muster/cli/progress_bar.h"
#include "muster/cli/table.h"
#include "muster/cli/text.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/evaluate/tune.h"

namespace muster::cli {
namespace {

/// "+1%", "1%" or "0.01".
double allowed_rise(const std::string& text) {
    std::string_view number = text;
    if (number.starts_with('+')) number.remove_prefix(1);
    const bool percent = number.ends_with('%');
    if (percent) number.remove_suffix(1);
    double x = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), x);
    if (error != std::errc() || end != number.data() + number.size() || !std::isfinite(x) || x < 0)
        throw Error("max-perplexity",
                    "'" + text + "' is no allowed rise, expected a share such as +1% or 0.01");
    return percent ? x / 100 : x;
}

std::string tried_table(const TuneResult& result) {
    Table table(
        {{"tried", Table::Align::left}, {"perplexity"}, {"experts"}, {"activated"}, {"allowed"}});
    for (const TunedPolicy& t : result.tried)
        table.row({t.policy, significant(std::exp(t.loss), 4), significant(t.experts),
                   count_text(t.activated), t.allowed ? "yes" : "no"});
    return table.render();
}

void report(const TuneResult& result, double rise, Terminal& terminal) {
    terminal.out << tried_table(result) << "\nOn the other half of the text:\n\n"
                 << comparison_table(result.confirmed);
    if (result.rejected > 0)
        terminal.out << fmt::format(
            "left out: {} that the search allowed and this half did not, which makes it look a "
            "little better than it is\n",
            result.rejected);
    const double high = result.confirmed.policies.back().difference.high;
    if (!(high <= std::log1p(rise)))
        terminal.out << fmt::format(
            "the interval reaches above the allowed {:.4f} nats: more text would say more\n",
            std::log1p(rise));
    terminal.out << fmt::format("\n--routing {}\n", result.chosen);
}

}  // namespace

int tune_command(const TuneCommandOptions& options, Terminal& terminal) {
    TuneOptions tune;
    tune.max_perplexity = allowed_rise(options.max_perplexity);
    tune.per_layer = !options.global_only;
    tune.steps = options.steps;
    tune.evaluate.max_tokens = options.tokens;
    tune.evaluate.confidence = checked_confidence(options.confidence);
    InputFiles(options.model.model, terminal).add(options.files).keep_from({options.output});
    std::optional<AtomicFile> output;  // refuses a bad place before the work
    if (!options.output.empty()) output.emplace(options.output);
    const auto documents = read_documents(options.files);
    const Engine engine = load_engine(options.model, options.engine,
                                      {.context = options.window, .exact = true}, terminal);
    tune.evaluate.window = engine.context;
    tune.evaluate.compute = engine.compute;
    tune.evaluate.kv = engine.kv;
    const TuneCost cost = tune_cost(*engine.model, documents, tune);
    terminal.err << fmt::format("up to {} policies on {} each\n", cost.policies,
                                plural(cost.tokens, "token"))
                 << std::flush;
    TuneResult result;
    {
        ProgressBar bar(terminal);
        tune.evaluate.progress = bar.callback();
        result = tune_policy(*engine.model, documents, *engine.team, tune);
    }
    ordered_json document{{"model", options.model.model}};
    document.update(parsed(to_json(result)));
    if (output) {
        output->write(document.dump(2) + "\n");
        output->commit();
    }
    if (options.json) {
        print_json(document, terminal);
    } else {
        report(result, tune.max_perplexity, terminal);
    }
    return 0;
}

}  // namespace muster::cli
