// SPDX-License-Identifier: Apache-2.0
#include <c10/util/Exception.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "muster/core/error.h"
#include "muster/train/trainer.h"

namespace {

using namespace muster;
using namespace muster::train;

constexpr int kUsage = 2, kInterrupted = 130;  // exit codes, as docs/cli.md lists them

std::atomic<bool> stop_requested{false};

void request_stop(int signal) {
    stop_requested = true;
    std::signal(signal, SIG_DFL);  // a second Ctrl-C ends at once
}

std::string duration(double seconds) {
    const auto s = static_cast<int64_t>(seconds);
    return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

/// One line that is drawn over on a terminal, plain lines elsewhere.
class Screen {
  public:
    void status(const std::string& line) {
        if (terminal_) {
            fmt::print(stderr, "\r\033[K{}", line);
            open_ = true;
        } else {
            fmt::print(stderr, "{}\n", line);
        }
        std::fflush(stderr);
    }
    void line(const std::string& text) {
        if (open_) fmt::print(stderr, "\r\033[K");
        open_ = false;
        fmt::print(stderr, "{}\n", text);
    }
    void end() {
        if (open_) fmt::print(stderr, "\n");
        open_ = false;
    }

  private:
    bool terminal_ = ::isatty(STDERR_FILENO) != 0;
    bool open_ = false;
};

TrainCallbacks callbacks(Screen& screen) {
    TrainCallbacks c;
    c.report = [&](const TrainReport& r) {
        screen.status(fmt::format(
            "step {}/{}  loss {:.4f}  aux {:.4f}  |g| {:.2f}  lr {:.2e}  {:.0f} tokens/s  "
            "experts {:.2f}  load max/mean {:.2f}  left {}",
            r.step, r.steps, r.loss, r.auxiliary, r.gradient_norm, r.lr, r.tokens_per_second,
            r.experts_per_token, r.max_over_mean, duration(r.seconds_left)));
    };
    c.evaluated = [&](int64_t step, const EvalResult& r) {
        std::string text = fmt::format("step {}  held out: loss {:.4f}, {:.2f} experts per token",
                                       step, r.loss, r.experts_per_token);
        for (const auto& [domain, loss] : r.domains)
            text += fmt::format("\n    {:<16} {:.4f}", domain, loss);
        screen.line(text);
    };
    c.saved = [&](const std::filesystem::path& path) {
        screen.line(fmt::format("saved {}", path.string()));
    };
    c.progress = [&](std::string_view what, int64_t done, int64_t) {
        screen.status(done > 0 ? fmt::format("{}: {} tokens", what, done) : std::string(what));
        return !stop_requested.load();
    };
    return c;
}

int run_training(const std::string& config_path, const std::vector<std::string>& texts,
                 const std::string& output, bool resume) {
    TrainConfig config =
        config_path.empty() ? parse_config("", "defaults") : read_config(config_path);
    if (!texts.empty()) config.data.train.assign(texts.begin(), texts.end());
    if (!output.empty()) config.output.directory = output;
    Screen screen;
    std::signal(SIGINT, request_stop);
    std::signal(SIGTERM, request_stop);
    Trainer trainer(config, resume, callbacks(screen));
    const TrainEnd end = trainer.run(stop_requested);
    screen.end();
    if (end == TrainEnd::interrupted) {
        fmt::print(stderr, "stopped at step {}; go on with the same command and --resume\n",
                   trainer.state().step);
        return kInterrupted;
    }
    fmt::print("{}\n", trainer.checkpoint().string());
    fmt::print(stderr, "done; next: muster export {} -o model.gguf\n",
               trainer.checkpoint().string());
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    // Large tensors come and go every step: keep their pages instead of returning them to the
    // system.
    ::mallopt(M_MMAP_THRESHOLD, 1 << 30);
    ::mallopt(M_TRIM_THRESHOLD, -1);
    CLI::App app{
        "Train a mixture-of-experts language model.\n"
        "Example: muster train configs/default.toml\n"
        "Example: muster train --text book.txt --output runs/book",
        "muster train"};
    std::string config, output;
    std::vector<std::string> texts;
    bool resume = false;
    app.add_option("config", config,
                   "TOML file; see configs/ for examples and docs/training.md for every key");
    app.add_option("--text", texts,
                   "text or .jsonl files to train on, instead of the config's data.train");
    app.add_option("--output", output,
                   "directory of the run, instead of the config's output.directory");
    app.add_flag("--resume", resume, "go on from the newest checkpoint of the directory");
    try {
        app.parse(argc, argv);
        if (config.empty() && texts.empty())
            throw CLI::RequiredError("a config file or --text FILE…");
    } catch (const CLI::Success& help) {
        return app.exit(help);
    } catch (const CLI::ParseError& error) {
        std::string what = error.what();
        std::replace(what.begin(), what.end(), '\n', ' ');
        fmt::print(stderr, "muster train: {} (see muster train --help)\n", what);
        return kUsage;
    }
    try {
        return run_training(config, texts, output, resume);
    } catch (const std::bad_alloc&) {
        fmt::print(
            stderr,
            "muster train: [memory] out of memory; try a smaller training.batch_tokens or model\n");
    } catch (const c10::Error& e) {
        const std::string what = e.what_without_backtrace();
        fmt::print(stderr, "muster train: [LibTorch] {}\n", what.substr(0, what.find('\n')));
    } catch (const std::exception& e) {
        fmt::print(stderr, "muster train: {}\n", e.what());
    }
    return stop_requested ? kInterrupted : 1;
}
