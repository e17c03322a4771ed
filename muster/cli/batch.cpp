// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/batch.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <fstream>
#include <memory>
#include <ostream>
#include <random>

#include "muster/cli/answer_json.h"
#include "muster/cli/batch_reader.h"
#include "muster/cli/outputs.h"
#include "muster/cli/statistics_file.h"
#include "muster/cli/text.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/evaluate/statistics_sink.h"
#include "muster/routing/activation_plan.h"

namespace muster::cli {
namespace {

constexpr int kInterrupted = 130;       // 128 + SIGINT, as shells report it
constexpr int kRows = 256;              // of a pass
constexpr int kPollMilliseconds = 100;  // an idle reader looks that often whether to stop

/// Requests handed over at once: as many wait as are worked on.
int64_t most_under_way(const BatchOptions& o) { return 2 * int64_t{o.sequences}; }

/// Where answers go: a file that appears when it is complete, or standard output.
class AnswerWriter {
  public:
    AnswerWriter(const std::string& path, Terminal& terminal) : terminal_(terminal) {
        if (!path.empty()) file_.emplace(path);
    }
    void write(const ordered_json& answer) {
        const std::string line =
            answer.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
        if (file_) {
            file_->write(line);
        } else {
            terminal_.out << line << std::flush;
        }
    }
    void commit() {
        if (file_) file_->commit();
    }

  private:
    Terminal& terminal_;
    std::optional<AtomicFile> file_;
};

SchedulerOptions scheduler_options(const BatchOptions& o, const Engine& engine, TraceSink* trace) {
    SchedulerOptions s;
    s.sequences = o.sequences;
    s.context = engine.context;
    s.max_rows = std::max(kRows, o.sequences);
    s.waiting = std::max(s.waiting, static_cast<size_t>(most_under_way(o)));
    s.compute = engine.compute;
    s.kv = engine.kv;
    s.trace = o.stats.empty() ? nullptr : trace;
    return s;
}

class Batch {
  public:
    Batch(const BatchOptions& options, const Engine& engine, BatchReader& reader,
          Terminal& terminal)
        : options_(options),
          terminal_(terminal),
          reader_(reader),
          writer_(options.output, terminal),
          stats_(options.stats, *engine.model),
          counted_(*engine.model),
          scheduler_(*engine.model, *engine.team, scheduler_options(options, engine, &counted_)) {}

    /// The exit code.
    int run() {
        const auto start = std::chrono::steady_clock::now();
        while (!terminal_.stop()) {
            fill();
            const bool busy = scheduler_.step();
            if (failure_) std::rethrow_exception(failure_);
            if (!busy && ended_) break;
        }
        stopped_ = true;  // what is left is not answered
        writer_.commit();
        stats_.add(counted_.statistics());
        const bool interrupted = terminal_.interrupted && terminal_.interrupted();
        if (!options_.quiet) report(start, interrupted);
        if (interrupted) return kInterrupted;
        return refused_ > 0 && !terminal_.stop() ? 1 : 0;
    }

  private:
    /// Hands over as many requests as keep the scheduler busy; waits for one only when idle.
    void fill() {
        while (!ended_ && under_way_ < most_under_way(options_) && !terminal_.stop()) {
            const BatchInput::Got got = reader_.read(under_way_ > 0 ? 0 : kPollMilliseconds);
            ended_ = got == BatchInput::Got::end;
            if (got == BatchInput::Got::nothing && under_way_ > 0) break;
            if (got != BatchInput::Got::line) continue;
            try {
                submit(reader_.request());
            } catch (const Error& e) {
                refuse(reader_.line(), reader_.id(), reader_.message(e));
            }
        }
    }

    void refuse(int64_t line, const ordered_json& id, const std::string& message) {
        ++refused_;
        terminal_.err << "muster: " << without_controls(message) << std::endl;
        ordered_json answer{{"line", line}};
        if (!id.is_null()) answer["id"] = id;
        answer["error"] = message;
        writer_.write(answer);
    }

    void submit(BatchRequest next) {
        struct Answer {
            int64_t line;
            ordered_json id;
            RoutingPolicy policy;
            uint64_t seed;
            ordered_json tokens = ordered_json::array();
        };
        Request& request = next.request;
        const auto answer = std::make_shared<Answer>(
            Answer{next.line, next.id, request.policy, request.generate.sampler.seed});
        request.generate.on_token = [this, answer](const GeneratedToken& token) {
            append_token(token, answer->tokens);
            if (stats_.wanted() && token.id >= 0) counted_.predicted(token.row, token.loss);
            return !terminal_.stop();
        };
        request.generate.progress = [this](std::string_view, int64_t, int64_t) {
            return !terminal_.stop();
        };
        request.on_done = [this, answer](Completion c) {
            --under_way_;
            try {
                done(answer->line, answer->id, std::move(c), [&](const GenerateResult& r) {
                    return answer_json(answer->policy, answer->seed, r, std::move(answer->tokens));
                });
            } catch (...) {
                failure_ = std::current_exception();
            }
        };
        scheduler_.submit(std::move(request));
        ++under_way_;
    }

    template <typename MakeJson>
    void done(int64_t line, const ordered_json& id, Completion c, MakeJson make) {
        if (c.error) {
            try {
                std::rethrow_exception(c.error);
            } catch (const std::exception& e) {
                return refuse(line, id, e.what());
            }
        }
        if (stopped_ || c.result.stop == StopReason::callback) return;
        const std::string speed = c.result.speed ? describe(*c.result.speed) : "";
        if (!speed.empty()) terminal_.err << "line " << line << ": " << speed << std::endl;
        ordered_json out{{"line", line}};
        if (!id.is_null()) out["id"] = id;
        out.update(make(c.result));
        writer_.write(out);
        ++answered_;
        written_ += static_cast<int64_t>(c.result.tokens.size());
    }

    void report(std::chrono::steady_clock::time_point start, bool interrupted) const {
        const double seconds =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        std::string text = fmt::format(
            "{} answered in {} s ({} tokens/s)", plural(answered_, "request"), significant(seconds),
            significant(seconds > 0 ? static_cast<double>(written_) / seconds : 0));
        if (refused_ > 0) text += fmt::format("; {} not", refused_);
        if (interrupted) text += "; stopped";
        terminal_.err << text << std::endl;
    }

    const BatchOptions& options_;
    Terminal& terminal_;
    BatchReader& reader_;
    AnswerWriter writer_;
    StatisticsFile stats_;
    PassStatistics counted_;
    bool ended_ = false, stopped_ = false;
    int64_t under_way_ = 0;
    int64_t answered_ = 0, refused_ = 0, written_ = 0;
    std::exception_ptr failure_;
    Scheduler scheduler_;  ///< the last: its end calls back
};

BatchInput standard_input(const Terminal& terminal) {
    return terminal.in_descriptor >= 0 ? BatchInput(terminal.in_descriptor)
                                       : BatchInput(terminal.in);
}

}  // namespace

int batch_command(const BatchOptions& options, Terminal& terminal) {
    options.sampler.check();
    BatchDefaults defaults{.policy = RoutingPolicy::parse(options.routing),
                           .sampler = options.sampler,
                           .max_tokens = options.tokens,
                           .ignore_end = options.ignore_end};
    defaults.sampler.seed = options.seed ? *options.seed : std::random_device{}();
    InputFiles(options.model.model, terminal)
        .add(options.requests)
        .add(options.plans)
        .add(options.chat_template)
        .add(std::vector{defaults.policy})
        .keep_from({options.output, options.stats});
    std::ifstream file;
    const bool standard = options.requests == "-";
    if (!standard) {
        file.open(options.requests, std::ios::binary);
        if (!file || std::filesystem::is_directory(options.requests))
            throw Error(options.requests, "cannot be read, expected a file of requests");
    }
    const Engine engine =
        load_engine(options.model, options.engine,
                    {.context = options.context, .sequences = options.sequences}, terminal);
    open_plans({&defaults.policy, 1}, *engine.model);
    for (const auto& plan : options.plans) engine.model->add_plan(plan.string(), read_plan(plan));
    const ChatPrompt chat(*engine.model, options.chat_template);
    BatchReader reader(standard ? standard_input(terminal) : BatchInput(file),
                       standard ? "requests" : options.requests, *engine.model, chat, defaults);
    Batch batch(options, engine, reader, terminal);
    return batch.run();
}

}  // namespace muster::cli
