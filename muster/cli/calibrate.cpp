// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/calibrate.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <ostream>

#include "muster/cli/json_text.h"
#include "muster/cli/outputs.h"
#include "muster/cli/progress_bar.h"
#include "muster/cli/table.h"
#include "muster/cli/text.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/counterfactual/misrouting.h"
#include "muster/evaluate/documents.h"

namespace muster::cli {
namespace {

using Align = Table::Align;

constexpr int kInterrupted = 130;
constexpr size_t kMostListed = 12;  // dormant experts

std::vector<int> layer_list(const std::string& text) {
    std::vector<int> layers;
    const auto fail = [&] {
        throw Error("layers",
                    "'" + text + "' is no list, expected layers and ranges such as 0-3,7");
    };
    const char* at = text.data();
    const char* end = at + text.size();
    const auto number = [&] {
        int n = 0;
        const auto [next, error] = std::from_chars(at, end, n);
        if (error != std::errc() || n < 0 || n > 65535) fail();
        at = next;
        return n;
    };
    while (at != end) {
        const int first = number();
        int last = first;
        if (at != end && *at == '-') ++at, last = number();
        if (last < first) fail();
        for (int l = first; l <= last; ++l) layers.push_back(l);
        if (at == end) break;
        if (*at++ != ',' || at == end) fail();
    }
    return layers;
}

CalibrationOptions calibration_options(const CalibrateOptions& o) {
    if (!(o.minutes >= 0 && o.minutes <= 1e6))
        throw Error("time", fmt::format("{} minutes, expected at least 0", o.minutes));
    CalibrationOptions c;
    c.experts_per_token = o.experts;
    c.window = o.window;
    c.hard = o.hard;
    c.easy = o.easy;
    c.lead = o.lead;
    c.epsilon = o.epsilon;
    c.noise = o.noise;
    c.draws = o.draws;
    c.ablation = o.ablation == "share" ? Ablation::share : Ablation::next;
    c.impacts = o.impacts == "boundary" ? ImpactRule::boundary : ImpactRule::users;
    c.budgets = o.budgets == "loss" ? BudgetRule::loss : BudgetRule::contrast;
    c.max_shift = o.max_shift;
    c.lambda = o.lambda;
    c.layers = layer_list(o.layers);
    c.clusters = o.clusters;
    c.seconds = 60 * o.minutes;
    c.confidence = o.confidence;
    c.seed = o.seed;
    c.state = o.state.empty() ? std::filesystem::path(o.output.string() + ".state") : o.state;
    return c;
}

void announce(const CalibrationCost& cost, double rate, Terminal& terminal) {
    terminal.err << fmt::format(
                        "{} in {}: {} passes from some layer on, about {} single positions; about "
                        "{} at the speed of the first window\n",
                        plural(cost.tokens, "token"), plural(cost.windows, "window"), cost.passes,
                        cost.ablations, clock_text(static_cast<double>(cost.row_layers) / rate))
                 << std::flush;
}

std::string plain_interval(const Interval& x) {
    return fmt::format("{} [{}, {}]", significant(x.mean), significant(x.low), significant(x.high));
}

std::string layers_table(const ActivationPlan& plan) {
    Table table({{"layer"},
                 {"hard tokens"},
                 {"easy tokens"},
                 {"contrast"},
                 {"budget"},
                 {"measured experts"},
                 {"dormant"}});
    for (size_t l = 0; l < plan.layers.size(); ++l) {
        const LayerEvidence& layer = plan.layers[l];
        if (layer.budget == 0) continue;
        int64_t known = 0, dormant = 0;
        for (const ExpertEvidence& e : layer.experts) known += e.tokens > 0, dormant += e.dormant;
        table.row({std::to_string(l), plain_interval(layer.hard), plain_interval(layer.easy),
                   plain_interval(layer.contrast), std::to_string(layer.budget),
                   fmt::format("{}/{}", known, layer.experts.size()), std::to_string(dormant)});
    }
    return table.render();
}

/// What one expert fewer and one more do, where numbers were tried.
std::string numbers_table(const ActivationPlan& plan, double change) {
    Table table({{"nats per token with"}, {"one expert fewer"}, {"one more"}});
    bool any = false;
    for (size_t l = 0; l < plan.layers.size(); ++l) {
        std::string cells[2] = {"-", "-"};
        for (const NumberEvidence& n : plan.layers[l].numbers) {
            any = true;
            const int away = n.experts - plan.experts_per_token;
            if (std::abs(away) == 1) cells[away > 0] = interval_text(n.change);
        }
        if (!plan.layers[l].numbers.empty())
            table.row({fmt::format("layer {}", l), cells[0], cells[1]});
    }
    if (!any) return "";
    if (!std::isfinite(change))
        return table.render() + "too few windows to tell what such budgets are worth\n\n";
    return table.render() +
           fmt::format(
               "the budgets, chosen on half of the windows, change the loss by {:+.4f} "
               "nats per token on the other\n\n",
               change);
}

std::string dormant_table(const ActivationPlan& plan) {
    Table table(
        {{"dormant expert", Align::left}, {"impact, nats"}, {"hard tokens"}, {"gate rank"}});
    size_t left_out = 0, listed = 0;
    for (size_t l = 0; l < plan.layers.size(); ++l) {
        const auto& experts = plan.layers[l].experts;
        for (size_t e = 0; e < experts.size(); ++e) {
            if (!experts[e].dormant) continue;
            if (++listed > kMostListed)
                ++left_out;
            else
                table.row(
                    {fmt::format("{}.{}", l, e), interval_text(experts[e].impact),
                     std::to_string(experts[e].tokens),
                     fmt::format("{} of {}", significant(experts[e].gate_rank), experts.size())});
        }
    }
    if (listed == 0) return "No expert is dormant by these measurements.\n";
    return table.render() + (left_out > 0 ? fmt::format("and {} more\n", left_out) : "");
}

std::string misrouting_table(const std::vector<MisroutingLayer>& layers) {
    Table table({{"layer"},
                 {"tokens", Align::left},
                 {"looked at"},
                 {"drawn routes that are better"},
                 {"tokens with a better one"},
                 {"nats saved by the best"}});
    for (const MisroutingLayer& l : layers)
        for (const auto& [name, m] : {std::pair("hard", &l.hard), std::pair("easy", &l.easy)})
            table.row({std::to_string(l.layer), name, std::to_string(m->tokens),
                       plain_interval(m->better_share), plain_interval(m->any_better),
                       plain_interval(m->best_gain)});
    return table.render();
}

ordered_json json_of(const Misrouting& m) {
    const auto interval = [](const Interval& x) { return ordered_json{x.mean, x.low, x.high}; };
    return {{"tokens", m.tokens},
            {"better_share", interval(m.better_share)},
            {"any_better", interval(m.any_better)},
            {"best_gain", interval(m.best_gain)}};
}

std::string reliability_text(double x) {
    return std::isfinite(x) ? fmt::format("{:.2f}", x) : "unknown";
}

ordered_json document_of(const CalibrationResult& result,
                         const std::vector<MisroutingLayer>& misrouting) {
    ordered_json document = parsed(result.plan.to_json());
    document["windows"] = result.windows;
    document["contrast_reliability"] = result.contrast_reliability;
    document["impact_reliability"] = result.impact_reliability;
    document["budget_change"] = result.budget_change;
    for (const MisroutingLayer& l : misrouting)
        document["misrouting"].push_back(
            {{"layer", l.layer}, {"hard", json_of(l.hard)}, {"easy", json_of(l.easy)}});
    return document;
}

void report(const CalibrateOptions& options, const CalibrationResult& result, Terminal& terminal) {
    terminal.out << fmt::format(
                        "Mean absolute change of the loss, in nats, when a layer's output is "
                        "perturbed; top-k:{} is the baseline\n\n",
                        result.plan.experts_per_token)
                 << layers_table(result.plan) << '\n'
                 << numbers_table(result.plan, result.budget_change) << dormant_table(result.plan)
                 << fmt::format(
                        "\nodd against even windows: rank correlation of the layers' contrasts {}, "
                        "correlation of the experts' impacts within layers {}\n{}: use it as "
                        "--routing plan:{}\n",
                        reliability_text(result.contrast_reliability),
                        reliability_text(result.impact_reliability), options.output.string(),
                        options.output.string());
}

void say_stopped(const CalibrationResult& result, const CalibrationCost& cost,
                 const std::filesystem::path& state, Terminal& terminal) {
    const std::string next = std::filesystem::exists(state)
                                 ? "; the same command goes on from " + state.string()
                                 : std::string();
    terminal.err << fmt::format("stopped after {} of {}{}", result.windows,
                                plural(cost.windows, "window"), next)
                 << std::endl;
}

}  // namespace

int calibrate_command(const CalibrateOptions& options, Terminal& terminal) {
    CalibrationOptions calibration = calibration_options(options);
    InputFiles(options.model.model, terminal)
        .add(options.files)
        .keep_from({options.output, calibration.state});
    std::vector<std::string> texts;
    for (Document& d : read_documents(options.files)) texts.push_back(std::move(d.text));
    EngineUse use{.context = options.window, .exact = true};
    const Engine engine = load_engine(options.model, options.engine, use, terminal);
    const Model& model = *engine.model;
    calibration.compute = engine.compute;
    calibration.kv = engine.kv;
    const auto windows = calibration_windows(model, texts, calibration, options.tokens);
    CalibrationCost cost = calibration_cost(model, windows, calibration);
    const MisroutingOptions routes{.alternatives = std::max(1, options.routes),
                                   .rows = options.route_tokens,
                                   .least_gain = options.route_gain};
    if (options.routes > 0) cost += misrouting_cost(model, windows, calibration, routes);
    announce(cost, calibration_rate(model, *engine.team, windows, calibration), terminal);
    AtomicFile output(options.output);  // refuses a bad place before the work
    CalibrationResult result;
    {
        ProgressBar bar(terminal);
        calibration.progress = bar.callback();
        result = calibrate(model, *engine.team, windows, calibration);
    }
    if (result.stopped) {
        say_stopped(result, cost, calibration.state, terminal);
        return kInterrupted;
    }
    output.write(result.plan.to_json());
    output.commit();
    if (!options.json) report(options, result, terminal);
    std::vector<MisroutingLayer> misrouting;
    bool whole = true;
    if (options.routes > 0) {
        ProgressBar bar(terminal);
        calibration.progress = bar.callback();
        const auto measured = std::span(windows).first(static_cast<size_t>(result.windows));
        misrouting = analyse_misrouting(model, *engine.team, measured, calibration, routes);
        whole = !misrouting.empty();
    }
    if (options.json) {
        print_json(document_of(result, misrouting), terminal);
    } else if (!misrouting.empty()) {
        terminal.out << '\n' << misrouting_table(misrouting);
    }
    if (!whole) {
        terminal.err << "stopped while routes were drawn; the plan is written, the same command "
                        "draws them again"
                     << std::endl;
        return kInterrupted;
    }
    if (result.windows == cost.windows) std::filesystem::remove(calibration.state);
    return 0;
}

}  // namespace muster::cli
