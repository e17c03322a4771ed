// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/program.h"

#include <exception>
#include <new>
#include <ostream>

#include "muster/cli/options.h"
#include "muster/core/error.h"

namespace muster::cli {
namespace {

constexpr int kError = 1;
constexpr int kUsage = 2;
constexpr int kInterrupted = 130;  // 128 + SIGINT, as shells report it

struct Dispatch {
    Terminal& terminal;
    int operator()(const RunOptions& o) const { return run_command(o, terminal); }
    int operator()(const ChatOptions& o) const { return chat_command(o, terminal); }
    int operator()(const BatchOptions& o) const { return batch_command(o, terminal); }
    int operator()(const EvalOptions& o) const { return eval_command(o, terminal); }
    int operator()(const InspectOptions& o) const { return inspect_command(o, terminal); }
    int operator()(const BenchOptions& o) const { return bench_command(o, terminal); }
    int operator()(const TokenizeOptions& o) const { return tokenize_command(o, terminal); }
    int operator()(const ExportOptions& o) const { return export_command(o, terminal); }
    int operator()(const ConvertOptions& o) const { return convert_command(o, terminal); }
    int operator()(const QuantizeOptions& o) const { return quantize_command(o, terminal); }
    int operator()(const ImatrixOptions& o) const { return imatrix_command(o, terminal); }
    int operator()(const TrainOptions& o) const { return train_command(o, terminal); }
    int operator()(const DemoOptions& o) const { return demo_command(o, terminal); }
    int operator()(const CompletionOptions& o) const {
        terminal.out << completion_script(command_tree(), o.shell);
        return 0;
    }
};

int run_words(std::span<const std::string> words, Terminal& terminal) {
    const CommandLine line = parse_command_line(words);
    if (line.command) return std::visit(Dispatch{terminal}, *line.command);
    if (line.usage_error) {
        terminal.err << line.text << std::endl;
        return kUsage;
    }
    terminal.out << line.text;
    return 0;
}

int report(std::string_view message, Terminal& terminal) {
    if (terminal.reader_gone && terminal.reader_gone()) return 0;
    if (terminal.interrupted && terminal.interrupted()) {
        terminal.err << "muster: stopped" << std::endl;
        return kInterrupted;
    }
    terminal.err << "muster: " << message << std::endl;
    return kError;
}

}  // namespace

int run_program(std::span<const std::string> words, Terminal& terminal) {
    try {
        const int code = run_words(words, terminal);
        terminal.out.flush();
        if (!terminal.out) throw Error("standard output", "cannot be written");
        return code;
    } catch (const std::bad_alloc&) {
        return report("[memory] there is not enough; try a smaller model or --ctx", terminal);
    } catch (const std::exception& e) {
        return report(e.what(), terminal);
    }
}

}  // namespace muster::cli
