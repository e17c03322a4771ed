// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <ostream>
#include <random>
#include <vector>

#include "muster/cli/chat_prompt.h"
#include "muster/cli/color.h"
#include "muster/cli/expert_use.h"
#include "muster/cli/line_reader.h"
#include "muster/cli/outputs.h"
#include "muster/cli/progress_bar.h"
#include "muster/cli/statistics_file.h"
#include "muster/cli/text.h"
#include "muster/core/error.h"
#include "muster/evaluate/statistics_sink.h"
#include "muster/generate/session.h"

namespace muster::cli {
namespace {

constexpr std::string_view kHelp =
    "/routing POLICY   route by another policy from the next answer on; alone: show it\n"
    "/system TEXT      another system message; alone: none\n"
    "/clear            forget the conversation, not the system message\n"
    "/stats            which experts worked on the last answer\n"
    "/help             this\n"
    "/exit             end (or Ctrl-D)\n"
    "A line that ends with \\ goes on in the next; \"\"\" begins and ends several lines; // at "
    "the\n"
    "beginning stands for /. Ctrl-C ends an answer.\n";

constexpr int kLeastAnswer = 64;  // tokens that a prompt should leave in the context
constexpr std::string_view kBlock = "\"\"\"";

std::string trimmed(std::string_view text) {
    const size_t first = text.find_first_not_of(" \t\r\n");
    if (first == std::string_view::npos) return {};
    return std::string(text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1));
}

SessionOptions session_options(const Engine& engine, const ChatOptions& options,
                               PassStatistics* counted) {
    SessionOptions s;
    s.context = engine.context;
    s.compute = engine.compute;
    s.kv = engine.kv;
    s.policy = RoutingPolicy::parse(options.routing);
    s.seed = options.seed.value_or(0);
    s.trace = counted;
    return s;
}

class Chat {
  public:
    Chat(const ChatOptions& options, Terminal& terminal, Engine engine)
        : options_(options),
          terminal_(terminal),
          engine_(std::move(engine)),
          stats_(options.stats, *engine_.model),
          counted_(*engine_.model),
          session_(*engine_.model, *engine_.team, session_options(engine_, options, &counted_)),
          prompt_(*engine_.model, options.chat_template),
          reader_(make_line_reader(terminal)),
          depth_(options.color == "experts" ? terminal.when_asked : ColorDepth::none),
          seed_(options.seed ? *options.seed : std::random_device{}()) {
        set_system(options.system);
    }

    int run() {
        introduce();
        std::string text;
        while (!done_ && !reader_gone() && read_turn(text)) {
            if (text.empty()) continue;
            if (text.front() == '/' && !text.starts_with("//")) {
                command(text);
            } else {
                answer(text.starts_with("//") ? text.substr(1) : text);
            }
        }
        return failed_ && !people() ? 1 : 0;
    }

  private:
    bool reader_gone() const { return terminal_.reader_gone && terminal_.reader_gone(); }
    bool people() const { return terminal_.in_is_terminal; }
    void say(const std::string& text) { terminal_.err << text << std::endl; }
    void complain(const Error& e) { say(std::string("muster: ") + e.what()); }

    void introduce() {
        if (prompt_.plain())
            say("The model has no chat template and may not have been trained for conversation: "
                "turns are\nwritten as \"User: ...\" and \"Assistant: ...\" "
                "(--chat-template gives one).");
        if (!people() || options_.quiet) return;
        const ModelConfig& config = engine_.model->config();
        say(fmt::format("{}, context of {} tokens, routing {}; /help shows commands",
                        config.name.empty() ? config.architecture : without_controls(config.name),
                        session_.context(), session_.routing().policy().to_string()));
    }

    /// One line. Ctrl-C is forgotten, unless the program was asked to end for good.
    LineReader::Got read_line(const char* prompt, std::string& line) {
        line.clear();
        const LineReader::Got got = reader_->read(prompt, line);
        if (got != LineReader::Got::interrupted) return got;
        if (terminal_.forget_interrupt) terminal_.forget_interrupt();
        return terminal_.stop() ? LineReader::Got::end : got;
    }

    /// A turn: a line, lines joined by \ at their ends, or a block between """. Ctrl-C makes it
    /// empty. False at the end of input.
    bool read_turn(std::string& text) {
        std::string line;
        text.clear();
        LineReader::Got got = read_line("> ", line);
        if (got == LineReader::Got::line) {
            got = line.starts_with(kBlock) ? read_block(line.substr(kBlock.size()), text)
                                           : read_lines(line, text);
        }
        if (got == LineReader::Got::interrupted) text.clear();
        text = trimmed(text);
        return got != LineReader::Got::end || !text.empty();
    }

    LineReader::Got read_block(std::string line, std::string& text) {
        for (;;) {
            const size_t end = line.find(kBlock);
            text += line.substr(0, end);
            if (end != std::string::npos) return LineReader::Got::line;
            text += '\n';
            const LineReader::Got got = read_line(kMore, line);
            if (got != LineReader::Got::line) return got;
        }
    }

    LineReader::Got read_lines(std::string line, std::string& text) {
        while (line.ends_with('\\')) {
            line.pop_back();
            text += line + '\n';
            const LineReader::Got got = read_line(kMore, line);
            if (got != LineReader::Got::line) return got;
        }
        text += line;
        return LineReader::Got::line;
    }

    void command(const std::string& text) {
        const size_t space = text.find_first_of(" \t\n");
        const std::string name = text.substr(0, space);
        const std::string rest = space == std::string::npos ? "" : trimmed(text.substr(space));
        if (name == "/help") {
            terminal_.err << kHelp << std::flush;
        } else if (name == "/exit" || name == "/quit") {
            done_ = true;
        } else if (name == "/clear") {
            messages_.resize(has_system() ? 1 : 0);
            say("The conversation is forgotten.");
        } else if (name == "/system") {
            set_system(rest);
            say(rest.empty() ? "No system message." : "The system message is set.");
        } else if (name == "/routing") {
            set_routing(rest);
        } else if (name == "/stats") {
            terminal_.err << expert_use(counted_.statistics())
                          << fmt::format("{} of {} tokens of context used\n",
                                         session_.tokens().size(), session_.context())
                          << std::flush;
        } else {
            say("\"" + without_controls(name) + "\" is no command; /help shows them");
        }
    }

    void set_routing(const std::string& text) {
        try {
            if (!text.empty()) {
                const RoutingPolicy policy = RoutingPolicy::parse(text);
                open_plans({&policy, 1}, *engine_.model);
                session_.set_policy(policy);
            }
            say("routing " + session_.routing().policy().to_string());
        } catch (const Error& e) {
            complain(e);
        }
    }

    bool has_system() const { return !messages_.empty() && messages_[0].role == "system"; }
    void set_system(const std::string& text) {
        if (has_system()) messages_.erase(messages_.begin());
        if (!text.empty()) messages_.insert(messages_.begin(), {"system", text});
    }

    /// The prompt's tokens, the oldest turns of `messages` dropped until they leave room for an
    /// answer. A new turn that does not fit alone is left to the session to refuse.
    std::vector<int32_t> fitting_prompt(std::vector<ChatMessage>& messages) {
        const int context = session_.context();
        const auto most = static_cast<size_t>(context - std::min(kLeastAnswer, context / 2));
        std::vector<int32_t> ids = prompt_.tokens(messages);
        if (ids.size() <= most) return ids;
        auto first = messages.begin() + (has_system() ? 1 : 0);
        std::vector<ChatMessage> alone(messages.begin(), first);
        alone.push_back(messages.back());
        std::vector<int32_t> least = prompt_.tokens(alone);
        if (least.size() > static_cast<size_t>(context)) return least;
        int dropped = 0;
        for (; ids.size() > most && messages.size() > alone.size(); ++dropped) {
            first = messages.erase(first, first + 2);
            ids = prompt_.tokens(messages);
        }
        if (dropped > 0)
            say(fmt::format("The context of {} tokens is full: the oldest {} forgotten.", context,
                            dropped == 1 ? "turn is" : std::to_string(dropped) + " turns are"));
        return ids;
    }

    /// A turn that gets no answer leaves the conversation as it was.
    void answer(const std::string& text) {
        std::vector<ChatMessage> messages = messages_;
        messages.push_back({"user", text});
        try {
            const std::vector<int32_t> ids = fitting_prompt(messages);
            if (const std::optional<std::string> written = write(ids)) {
                messages.push_back({"assistant", *written});
                messages_ = std::move(messages);
            }
            stats_.add(counted_.statistics());
        } catch (const Error& e) {
            failed_ = true;
            complain(e);
        }
    }

    /// The answer; nothing when it was stopped before its first token.
    std::optional<std::string> write(const std::vector<int32_t>& ids) {
        const ExpertScale scale =
            expert_scale(engine_.model->config(), session_.routing().policy());
        counted_.clear();
        GenerateOptions generate;
        generate.sampler = options_.sampler;
        generate.sampler.seed = seed_ + turn_++;
        generate.max_tokens = options_.tokens;
        generate.stop = prompt_.stop_strings();
        ProgressBar bar(terminal_);
        generate.progress = bar.callback();
        double low = 0, high = 0;
        bool line_ended = true;
        generate.on_token = [&](const GeneratedToken& token) {
            bar.clear();
            if (token.id >= 0) {
                counted_.predicted(token.row, token.loss);
                low = low == 0 ? token.mean_experts : std::min(low, token.mean_experts);
                high = std::max(high, token.mean_experts);
            }
            const std::string shown =
                terminal_.out_is_terminal ? without_controls(token.text) : token.text;
            terminal_.out << paint(shown, scale.position(token.mean_experts), depth_) << std::flush;
            if (!shown.empty()) line_ended = shown.back() == '\n';
            return !terminal_.stop() && terminal_.out.good();
        };
        const GenerateResult result = session_.generate(ids, generate);
        bar.clear();
        if (!line_ended) terminal_.out << '\n';
        terminal_.out << std::flush;
        const bool stopped = result.stop == StopReason::callback;
        if (stopped && terminal_.forget_interrupt) terminal_.forget_interrupt();
        if (terminal_.stop()) done_ = true;  // asked to end for good
        if (!options_.quiet) statistics(result, low, high, stopped);
        if (stopped && result.tokens.empty()) return std::nullopt;
        return trimmed(result.text);
    }

    void statistics(const GenerateResult& r, double low, double high, bool stopped) {
        const auto written = static_cast<int64_t>(r.tokens.size());
        // Of a prompt that was stopped, the cache holds the beginning.
        const auto held = static_cast<int64_t>(session_.tokens().size());
        const int64_t read = std::min<int64_t>(r.prompt_tokens, held) - r.reused_tokens;
        const double rate = r.seconds > 0 ? static_cast<double>(written) / r.seconds : 0;
        std::string text = fmt::format(
            "{} in {} s ({} tokens/s); {} experts per token ({} to {}); {} tokens read, {} kept",
            plural(written, "token"), significant(r.seconds), significant(rate),
            significant(r.mean_experts), significant(low), significant(high), read,
            r.reused_tokens);
        if (stopped) text += "; stopped";
        if (r.stop == StopReason::max_tokens || r.stop == StopReason::context_full)
            text += "; " + describe(r.stop, session_.context());
        const std::string speed = r.speed ? describe(*r.speed) : "";
        if (!speed.empty() && !stopped) text += "; " + speed;
        const bool dim = terminal_.err_is_terminal && terminal_.colors != ColorDepth::none;
        say(dim ? "\033[2m[" + text + "]\033[0m" : "[" + text + "]");
    }

    static constexpr const char* kMore = ". ";

    const ChatOptions& options_;
    Terminal& terminal_;
    Engine engine_;
    StatisticsFile stats_;
    PassStatistics counted_;  ///< of the last answer
    Session session_;
    ChatPrompt prompt_;
    std::unique_ptr<LineReader> reader_;
    ColorDepth depth_;
    uint64_t seed_;
    uint64_t turn_ = 0;
    std::vector<ChatMessage> messages_;
    bool done_ = false;
    bool failed_ = false;  ///< a turn got an error instead of an answer
};

}  // namespace

int chat_command(const ChatOptions& options, Terminal& terminal) {
    options.sampler.check();
    const RoutingPolicy policy = RoutingPolicy::parse(options.routing);
    InputFiles(options.model.model, terminal)
        .add(options.chat_template)
        .add(std::vector{policy})
        .keep_from({options.stats});
    Engine engine =
        load_engine(options.model, options.engine, {.context = options.context}, terminal);
    open_plans({&policy, 1}, *engine.model);
    return Chat(options, terminal, std::move(engine)).run();
}

}  // namespace muster::cli
