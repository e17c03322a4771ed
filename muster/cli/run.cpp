// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/run.h"

#include <fmt/format.h>

#include <ostream>
#include <random>

#include "muster/cli/answer_json.h"
#include "muster/cli/color.h"
#include "muster/cli/json_text.h"
#include "muster/cli/outputs.h"
#include "muster/cli/progress_bar.h"
#include "muster/cli/statistics_file.h"
#include "muster/cli/text.h"
#include "muster/evaluate/statistics_sink.h"
#include "muster/generate/session.h"

namespace muster::cli {
namespace {

constexpr int kInterrupted = 130;  // 128 + SIGINT, as shells report it

uint64_t seed_of(const RunOptions& options) {
    if (options.seed) return *options.seed;
    return std::random_device{}();  // 32 bits: short enough to type again
}

ColorDepth depth_of(const RunOptions& options, const Terminal& terminal) {
    return options.color == "experts" && !options.json ? terminal.when_asked : ColorDepth::none;
}

double rate(int64_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

std::string stop_text(const GenerateResult& result, const Session& session,
                      const Terminal& terminal) {
    if (result.stop == StopReason::callback && terminal.stop()) return "interrupted";
    return describe(result.stop, session.context());
}

/// Writes tokens as they come and collects them for --json.
class TokenWriter {
  public:
    TokenWriter(const RunOptions& options, Terminal& terminal, const ExpertScale& scale)
        : options_(options),
          terminal_(terminal),
          scale_(scale),
          depth_(depth_of(options, terminal)) {}

    bool operator()(const GeneratedToken& token) {
        if (options_.json) {
            append_token(token, tokens_);
        } else {
            const std::string text =
                terminal_.out_is_terminal ? without_controls(token.text) : token.text;
            terminal_.out << paint(text, scale_.position(token.mean_experts), depth_) << std::flush;
            if (!text.empty()) ends_line_ = text.back() == '\n';
        }
        return !terminal_.stop() && terminal_.out.good();
    }

    void finish() {
        if (options_.json) return;
        if (!ends_line_) terminal_.out << '\n';
        if (depth_ != ColorDepth::none) terminal_.out << legend(scale_, depth_) << '\n';
        terminal_.out.flush();
    }

    const ordered_json& tokens() const { return tokens_; }

  private:
    const RunOptions& options_;
    Terminal& terminal_;
    ExpertScale scale_;
    ColorDepth depth_;
    bool ends_line_ = true;
    ordered_json tokens_ = ordered_json::array();
};

std::string statistics(const GenerateResult& r, uint64_t seed, const RunOptions& options) {
    std::string text = fmt::format("{} in {} s", plural(r.prompt_tokens, "prompt token"),
                                   significant(r.prompt_seconds));
    const int computed = r.prompt_tokens - r.reused_tokens;
    text += fmt::format(" ({} tokens/s", significant(rate(computed, r.prompt_seconds)));
    if (r.reused_tokens > 0) text += fmt::format(", {} from the cache", r.reused_tokens);
    const auto written = static_cast<int64_t>(r.tokens.size());
    text += fmt::format("); wrote {} in {} s ({} tokens/s)", plural(written, "token"),
                        significant(r.seconds), significant(rate(written, r.seconds)));
    text += fmt::format("; {} experts per token", significant(r.mean_experts));
    if (options.sampler.temperature > 0) text += fmt::format("; seed {}", seed);
    return text;
}

/// The prompt's ids. One line feed at the end of a file or pipe belongs to the file, not to the
/// text that is to be continued.
std::vector<int32_t> prompt_ids(const RunOptions& options, const Model& model, Terminal& terminal) {
    std::string text = read_text(options.text, terminal);
    if (!options.text.prompt && text.ends_with('\n')) text.pop_back();
    std::vector<int32_t> ids = model.tokenizer().encode(text);
    if (ids.empty()) throw Error("prompt", "is empty, expected some text");
    if (options.echo && !options.json) {
        const bool plain = !terminal.out_is_terminal;
        terminal.out << bold(plain ? text : without_controls(text), terminal.colors) << std::flush;
    }
    return ids;
}

}  // namespace

int run_command(const RunOptions& options, Terminal& terminal) {
    const RoutingPolicy policy = RoutingPolicy::parse(options.routing);
    GenerateOptions generate;
    generate.sampler = options.sampler;
    generate.sampler.seed = seed_of(options);
    generate.sampler.check();
    generate.max_tokens = options.tokens;
    generate.ignore_end = options.ignore_end;

    InputFiles(options.model.model, terminal)
        .add(options.text.file)
        .add(std::vector{policy})
        .keep_from({options.stats, options.prompt_cache});
    const Engine engine =
        load_engine(options.model, options.engine, {.context = options.context}, terminal);
    open_plans({&policy, 1}, *engine.model);
    const Model& model = *engine.model;
    SessionOptions session_options;
    session_options.context = engine.context;
    session_options.compute = engine.compute;
    session_options.kv = engine.kv;
    session_options.policy = policy;
    session_options.seed = generate.sampler.seed;
    const StatisticsFile stats(options.stats, model);
    PassStatistics counted(model);
    if (stats.wanted()) session_options.trace = &counted;
    Session session(model, *engine.team, session_options);
    const bool cached = !options.prompt_cache.empty();
    if (cached && std::filesystem::exists(options.prompt_cache))
        session.load_cache(options.prompt_cache);
    const std::vector<int32_t> ids = prompt_ids(options, model, terminal);

    TokenWriter writer(options, terminal, expert_scale(model.config(), policy));
    ProgressBar bar(terminal);
    generate.progress = bar.callback();
    generate.on_token = [&](const GeneratedToken& token) {
        bar.clear();
        if (stats.wanted() && token.id >= 0) counted.predicted(token.row, token.loss);
        return writer(token);
    };
    const GenerateResult result = session.generate(ids, generate);
    bar.clear();
    writer.finish();
    if (cached) session.save_cache(options.prompt_cache);
    stats.add(counted.statistics());

    if (options.json) {
        ordered_json document{{"model", options.model.model}};
        document.update(answer_json(policy, generate.sampler.seed, result, writer.tokens()));
        print_json(document, terminal);
    }
    if (terminal.reader_gone && terminal.reader_gone()) return 0;
    const std::string stop = stop_text(result, session, terminal);
    if (!options.quiet && !options.json) {
        terminal.err << statistics(result, generate.sampler.seed, options) << "; " << stop
                     << std::endl;
    } else if (result.stop == StopReason::context_full) {
        terminal.err << stop << std::endl;
    }
    const std::string speed = result.speed ? describe(*result.speed) : "";
    if (!speed.empty() && !terminal.stop()) terminal.err << speed << std::endl;
    return terminal.interrupted && terminal.interrupted() ? kInterrupted : 0;
}

}  // namespace muster::cli
