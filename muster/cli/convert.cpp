// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>
#include <vector>

#include "muster/cli/inputs.h"
#include "muster/cli/json_text.h"
#include "muster/cli/outputs.h"
#include "muster/cli/progress_bar.h"
#include "muster/cli/text.h"
#include "muster/core/error.h"
#include "muster/model/convert.h"
#include "muster/model/open_model.h"

namespace muster::cli {
namespace {

namespace fs = std::filesystem;

int64_t size_of(const std::vector<fs::path>& files) {
    int64_t bytes = 0;
    std::error_code ignored;
    for (const fs::path& file : files) bytes += static_cast<int64_t>(fs::file_size(file, ignored));
    return bytes;
}

std::vector<fs::path> files_of(const fs::path& directory) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(directory)) files.push_back(entry.path());
    std::ranges::sort(files);
    return files;
}

std::vector<fs::path> write(const ConvertOptions& options, const WeightMap& model,
                            const Progress& progress) {
    if (options.output.extension() == ".gguf") {
        if (!options.type.empty())
            throw Error("convert",
                        "--type is for directories; muster quantize gives GGUF files "
                        "other formats");
        return convert_to_gguf(model, options.output, options.max_shard_bytes, progress);
    }
    HfWriteOptions hf;
    if (!options.type.empty()) hf.dtype = parse_dtype(options.type);
    if (options.max_shard_bytes > 0) hf.max_shard_bytes = options.max_shard_bytes;
    convert_to_hf(model, options.output, hf, progress);
    return files_of(options.output);
}

}  // namespace

int convert_command(const ConvertOptions& options, Terminal& terminal) {
    std::error_code ignored;
    const fs::path input = model_path(options.input.string(), terminal);
    InputFiles(options.input.string(), terminal).keep_from({options.output});
    if (fs::is_directory(input, ignored) && options.output.extension() != ".gguf")
        throw Error(input.string(),
                    "is a directory already, expected an output that ends in .gguf");
    const WeightMap model = open_model(input, HfUse::convert);
    const std::vector<fs::path> files = [&] {
        ProgressBar bar(terminal);
        return write(options, model, bar.callback());
    }();
    const int64_t bytes = size_of(files);
    if (options.json) {
        ordered_json names = ordered_json::array();
        for (const fs::path& file : files) names.push_back(file.string());
        print_json({{"input", options.input.string()},
                    {"output", options.output.string()},
                    {"architecture", model.string("general.architecture")},
                    {"tensors", model.tensors().size()},
                    {"files", std::move(names)},
                    {"bytes", bytes}},
                   terminal);
        return 0;
    }
    for (const fs::path& file : files) terminal.out << file.string() << '\n';
    terminal.err << fmt::format("{} of {}, {} in {}\n", bytes_text(static_cast<double>(bytes)),
                                model.string("general.architecture"),
                                plural(static_cast<int64_t>(model.tensors().size()), "tensor"),
                                plural(static_cast<int64_t>(files.size()), "file"));
    return 0;
}

}  // namespace muster::cli
