// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/export.h"

#include <fmt/format.h>

#include <charconv>
#include <ostream>

#include "muster/cli/json_text.h"
#include "muster/cli/outputs.h"
#include "muster/cli/progress_bar.h"
#include "muster/cli/text.h"
#include "muster/core/error.h"
#include "muster/model/export.h"

namespace muster::cli {
namespace {

namespace fs = std::filesystem;

/// N of a directory named step-N; -1 otherwise.
long step_of(const fs::path& directory) {
    const std::string name = directory.filename().string();
    long step = -1;
    if (name.starts_with("step-")) {
        const auto [end, error] = std::from_chars(name.data() + 5, name.data() + name.size(), step);
        if (error != std::errc() || end != name.data() + name.size()) return -1;
    }
    return step;
}

bool to_hf(const ExportOptions& options) {
    if (!options.format.empty()) return options.format == "hf";
    std::error_code ignored;
    return !options.output.has_filename() || fs::is_directory(options.output, ignored);
}

int64_t size_of(const fs::path& path) {
    std::error_code ignored;
    if (!fs::is_directory(path, ignored)) return static_cast<int64_t>(fs::file_size(path, ignored));
    int64_t bytes = 0;
    for (const auto& entry : fs::directory_iterator(path, ignored))
        if (entry.is_regular_file(ignored)) bytes += static_cast<int64_t>(entry.file_size(ignored));
    return bytes;
}

}  // namespace

fs::path resolve_checkpoint(const fs::path& path) {
    std::error_code ignored;
    if (fs::exists(path / "config.json", ignored)) return path;
    fs::path newest;
    for (const auto& entry : fs::directory_iterator(path / "checkpoints", ignored)) {
        if (step_of(entry.path()) >= 0 &&
            (newest.empty() || step_of(entry.path()) > step_of(newest)))
            newest = entry.path();
    }
    return newest.empty() ? path : newest;
}

int export_command(const ExportOptions& options, Terminal& terminal) {
    const DType dtype = parse_dtype(options.type);
    const bool hf = to_hf(options);
    const fs::path checkpoint = resolve_checkpoint(options.checkpoint);
    InputFiles(checkpoint.string(), terminal).keep_from({options.output});
    {
        ProgressBar bar(terminal);
        if (hf) {
            export_hf(checkpoint, options.output, dtype, bar.callback());
        } else {
            export_gguf(checkpoint, options.output, dtype, bar.callback());
        }
    }
    const int64_t bytes = size_of(options.output);
    if (options.json) {
        print_json({{"checkpoint", checkpoint.string()},
                    {"output", options.output.string()},
                    {"format", hf ? "hf" : "gguf"},
                    {"type", options.type},
                    {"bytes", bytes}},
                   terminal);
        return 0;
    }
    terminal.out << options.output.string() << '\n';
    terminal.err << fmt::format("{} of {} as {}\n", bytes_text(double(bytes)), checkpoint.string(),
                                options.type);
    if (!hf)
        terminal.err << fmt::format("next: muster run {} -p \"Once upon a time\"\n",
                                    options.output.string());
    return 0;
}

}  // namespace muster::cli
