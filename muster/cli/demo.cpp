// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/demo.h"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>

#include "muster/cli/color.h"
#include "muster/cli/eval.h"
#include "muster/cli/json_text.h"
#include "muster/cli/progress_bar.h"
#include "muster/cli/text.h"
#include "muster/core/atomic_file.h"
#include "muster/core/thread_team.h"
#include "muster/cpu/isa.h"
#include "muster/generate/session.h"
#include "muster/model/summary.h"
#include "muster/report/atlas_page.h"

namespace muster::cli {
namespace {

const std::vector<std::string> kPrompts{"The people of the United States", "She looked at him, and",
                                        "lantern (noun):", "def read_file(path):"};

ColorDepth depth_of(const DemoOptions& options, const Terminal& terminal) {
    if (options.json || options.color == "none") return ColorDepth::none;
    return options.color == "experts" ? terminal.when_asked : terminal.colors;
}

/// What the parts of the demo share.
struct Demo {
    const DemoOptions& options;
    Terminal& terminal;
    const Model& model;
    ThreadTeam& team;
    ColorDepth depth;
    ordered_json document;

    bool speaks() const { return !options.json; }
    bool stopped() const { return terminal.stop(); }
    void heading(std::string_view text) const {
        if (speaks()) terminal.out << '\n' << bold(text, depth) << "\n\n" << std::flush;
    }
};

void introduce(Demo& demo) {
    const ModelSummary summary = summarize(demo.model);
    std::string text = fmt::format("Muster {}: {}, {}, {} parameters", MUSTER_VERSION,
                                   model_path(demo.options.model.model, demo.terminal).string(),
                                   bytes_text(double(summary.weight_bytes)),
                                   count_text(double(summary.parameters.total)));
    if (summary.activated >= 0)
        text += fmt::format(" ({} activated per token)", count_text(summary.activated));
    text += fmt::format("; {}, {}", plural(demo.team.workers(), "thread"), isa_name(current_isa()));
    if (demo.speaks()) demo.terminal.out << text << '\n';
    demo.document["model"] = demo.options.model.model;
    demo.document["parameters"] = summary.parameters.total;
    demo.document["weight_bytes"] = summary.weight_bytes;
}

void write_text(Demo& demo, Session& session, const std::string& prompt, const ExpertScale& scale) {
    Terminal& terminal = demo.terminal;
    std::vector<double> experts;
    GenerateOptions generate;
    generate.max_tokens = demo.options.tokens;
    generate.ignore_end = false;
    generate.sampler.temperature = 0.9;  // a small model repeats itself when colder
    generate.sampler.seed = 3;
    generate.on_token = [&](const GeneratedToken& token) {
        if (token.id >= 0) experts.push_back(token.mean_experts);
        if (demo.speaks())
            terminal.out << paint(without_controls(token.text), scale.position(token.mean_experts),
                                  demo.depth)
                         << std::flush;
        return !demo.stopped();
    };
    if (demo.speaks()) terminal.out << bold(prompt, demo.depth) << std::flush;
    const GenerateResult result = session.generate(demo.model.tokenizer().encode(prompt), generate);
    const auto [low, high] = std::minmax_element(experts.begin(), experts.end());
    const bool any = !experts.empty();
    if (demo.speaks())
        terminal.out << fmt::format(
            "\n  ({}, {} tokens/s, {} experts per token, {} to {})\n\n",
            plural(static_cast<int64_t>(result.tokens.size()), "token"),
            significant(double(result.tokens.size()) / std::max(1e-9, result.seconds)),
            significant(result.mean_experts), significant(any ? *low : 0),
            significant(any ? *high : 0));
    demo.document["texts"].push_back({{"prompt", prompt},
                                      {"text", result.text},
                                      {"experts", experts},
                                      {"experts_per_token", result.mean_experts},
                                      {"seconds", result.seconds}});
}

void write_texts(Demo& demo) {
    demo.heading(demo.depth == ColorDepth::none
                     ? "1. What the model writes (on a terminal: coloured by experts per token)"
                     : "1. What the model writes, each token coloured by its experts");
    const ExpertScale scale = expert_scale(demo.model.config(), {});
    demo.document["texts"] = ordered_json::array();
    Session session(demo.model, demo.team);
    for (const auto& prompt : demo.options.prompts.empty() ? kPrompts : demo.options.prompts) {
        if (demo.stopped()) return;
        write_text(demo, session, prompt, scale);
    }
    if (demo.speaks() && demo.depth != ColorDepth::none)
        demo.terminal.out << legend(scale, demo.depth) << '\n';
}

std::vector<std::filesystem::path> text_files(const std::filesystem::path& directory) {
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(directory))
        if (entry.path().extension() == ".txt") files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
}

void compare(Demo& demo) {
    demo.heading("2. What each routing policy costs, on text the model has never seen");
    const auto documents =
        labelled_documents(text_files(find_data(demo.terminal, "heldout")), true);
    EvaluateOptions evaluate;
    evaluate.policies = parse_policies(demo.options.routing);
    AtomicFile atlas(demo.options.atlas);  // refuses a bad place before the work
    AtlasCollector collector(demo.model, evaluate.policies.front());
    evaluate.sinks = {&collector};
    EvaluationResult result;
    {
        ProgressBar bar(demo.terminal);
        evaluate.progress = bar.callback();
        result = evaluate_perplexity(demo.model, documents, demo.team, evaluate);
    }
    atlas.write(atlas_html({collector.atlas(), &result, nullptr, MUSTER_VERSION}));
    atlas.commit();
    demo.document["comparison"] = parsed(to_json(result));
    demo.document["atlas"] = demo.options.atlas.string();
    if (!demo.speaks()) return;
    demo.terminal.out << comparison_table(result, 2) << '\n'
                      << layers_table(result, 2)
                      << fmt::format(
                             "\n  {} of {} in {} styles; differences with 95 % intervals over "
                             "{}\n  experts: mean per token over layers; activated: parameters "
                             "read per token,\n  without embedding and output head\n",
                             plural(result.policies.front().all.tokens, "token"),
                             plural(result.documents, "held-out text"),
                             result.policies.front().domains.size(),
                             units_text(result.units, result.unit));
}

void what_next(const Demo& demo) {
    if (!demo.speaks()) return;
    const std::string& model = demo.options.model.model;
    demo.heading("3. What to type next");
    demo.terminal.out << fmt::format(
        "  muster run {0} -p \"Once upon a time\" --color experts\n"
        "  muster run {0} -p \"Once upon a time\" --routing top-k:1\n"
        "  muster eval {0} YOUR.txt --routing model --routing top-p:0.5\n"
        "  muster atlas {0} YOUR.txt OTHER.txt -o atlas.html\n"
        "  muster inspect {0}\n"
        "  muster bench {0}\n"
        "  muster --help\n",
        model);
    demo.heading("4. See it");
    demo.terminal.out << fmt::format(
        "  {}\n  the atlas of experts on these texts: open it in a browser\n",
        std::filesystem::absolute(demo.options.atlas).string());
}

}  // namespace

int demo_command(const DemoOptions& options, Terminal& terminal) {
    Model model = load_model(options.model, terminal);
    open_plans(parse_policies(options.routing), model);
    ThreadTeam team(options.model.threads);
    Demo demo{options, terminal, model, team, depth_of(options, terminal), {}};
    introduce(demo);
    write_texts(demo);
    if (demo.stopped()) return 130;
    compare(demo);
    what_next(demo);
    if (options.json) print_json(demo.document, terminal);
    return 0;
}

}  // namespace muster::cli
