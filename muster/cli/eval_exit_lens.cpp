// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/eval_exit_lens.h"

#include <fmt/format.h>

#include <cmath>
#include <ostream>

#include "muster/cli/json_text.h"
#include "muster/cli/progress_bar.h"
#include "muster/cli/table.h"
#include "muster/cli/text.h"
#include "muster/evaluate/exit_lens.h"

namespace muster::cli {
namespace {

using Align = Table::Align;

std::string percent(double share) {
    return std::isfinite(share) ? fmt::format("{:.1f} %", 100 * share) : "-";
}
std::string layer_text(double layer) {
    return std::isfinite(layer) ? fmt::format("{:.2f}", layer) : "-";
}

std::string comparison(const ExitLensResult& result) {
    Table table({{"policy", Align::left},
                 {"exit layer"},
                 {"experts, all layers"},
                 {"after exit"},
                 {"share after"},
                 {"right, then lost"}});
    for (const ExitLensPolicy& p : result.policies)
        table.row({p.policy,
                   fmt::format("{} [{}, {}]", layer_text(p.exit_layer.mean),
                               layer_text(p.exit_layer.low), layer_text(p.exit_layer.high)),
                   significant(p.total.mean), significant(p.after.mean),
                   fmt::format("{} [{}, {}]", percent(p.share_after.mean),
                               percent(p.share_after.low), percent(p.share_after.high)),
                   percent(p.lost)});
    return table.render();
}

std::string layers(const ExitLensPolicy& policy) {
    Table table({{policy.policy + ", layer", Align::left},
                 {"settle"},
                 {"settled"},
                 {"right"},
                 {"experts"},
                 {"by settled"},
                 {"of settling"},
                 {"after it"}});
    double settled = 0;
    for (size_t l = 0; l < policy.layers.size(); ++l) {
        const ExitLayer& layer = policy.layers[l];
        settled += layer.settles;
        const bool any = layer.settles > 0;
        table.row({std::to_string(l), percent(layer.settles), percent(settled),
                   percent(layer.right), significant(layer.experts), significant(layer.spent_after),
                   any ? significant(layer.group_total) : "-",
                   any ? significant(layer.group_after) : "-"});
    }
    return table.render();
}

}  // namespace

int exit_lens_command(const EvalOptions& options, Terminal& terminal) {
    ExitLensOptions lens;
    lens.policies = parse_policies(options.routing);
    lens.confidence = checked_confidence(options.confidence);
    lens.stride = options.stride;
    lens.max_tokens = options.tokens;
    const auto documents = read_documents(options.files);
    const Engine engine = load_engine(options.model, options.engine,
                                      {.context = options.window, .exact = true}, terminal);
    open_plans(lens.policies, *engine.model);
    lens.window = engine.context;
    lens.compute = engine.compute;
    lens.kv = engine.kv;
    ExitLensResult result;
    {
        ProgressBar bar(terminal);
        lens.progress = bar.callback();
        result = exit_lens(*engine.model, documents, *engine.team, lens);
    }
    if (options.json) {
        ordered_json document{{"model", options.model.model},
                              {"compute", compute_name(engine.compute)},
                              {"kv", dtype_info(engine.kv).name}};
        document.update(parsed(to_json(result)));
        print_json(document, terminal);
        return 0;
    }
    terminal.out << fmt::format(
                        "{} in {} read after every layer; {}; computed in {}; {:.0f} % intervals "
                        "over {}\n\n",
                        plural(result.tokens, "token"), plural(result.documents, "document"),
                        plural(result.threads, "thread"), compute_name(engine.compute),
                        100 * options.confidence, units_text(result.units, result.unit))
                 << comparison(result);
    for (const ExitLensPolicy& p : result.policies) terminal.out << '\n' << layers(p);
    return 0;
}

}  // namespace muster::cli
