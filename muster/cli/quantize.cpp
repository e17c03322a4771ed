// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/quantize.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <ostream>

#include "muster/cli/inputs.h"
#include "muster/cli/json_text.h"
#include "muster/cli/outputs.h"
#include "muster/cli/progress_bar.h"
#include "muster/cli/table.h"
#include "muster/cli/text.h"
#include "muster/core/error.h"
#include "muster/core/thread_team.h"
#include "muster/model/open_model.h"
#include "muster/model/quantize.h"

namespace muster::cli {
namespace {

namespace fs = std::filesystem;

std::string name_of(DType dtype) { return std::string(dtype_info(dtype).name); }

std::string shape_text(const std::vector<int64_t>& shape) {
    return fmt::format("{}", fmt::join(shape, "×"));
}

double bits_per_weight(const QuantizeReport& report) {
    double weights = 0;
    for (const QuantizedTensor& t : report.tensors) {
        double n = 1;
        for (const int64_t d : t.shape) n *= static_cast<double>(d);
        weights += n;
    }
    return weights > 0 ? 8 * static_cast<double>(report.bytes_after) / weights : 0;
}

bool changed(const QuantizedTensor& t) { return t.type.from != t.type.to; }

ordered_json document(const QuantizeOptions& options, const QuantizeTarget& target,
                      const QuantizeReport& report) {
    ordered_json tensors = ordered_json::array();
    for (const QuantizedTensor& t : report.tensors) {
        tensors.push_back({{"name", t.type.name},
                           {"shape", t.shape},
                           {"from", name_of(t.type.from)},
                           {"to", name_of(t.type.to)},
                           {"fallback", t.type.fallback},
                           {"importance", t.weighted},
                           {"bytes_before", t.bytes_before},
                           {"bytes", t.bytes_after},
                           {"relative_rmse", nullptr}});
        if (changed(t)) tensors.back()["relative_rmse"] = t.relative_error();
    }
    return {{"input", options.input.string()},
            {"output", options.output.string()},
            {"type", target.name},
            {"bytes_before", report.bytes_before},
            {"bytes", report.bytes_after},
            {"bits_per_weight", bits_per_weight(report)},
            {"relative_rmse", report.relative_error},
            {"tensors", std::move(tensors)}};
}

std::string tensor_table(const QuantizeReport& report) {
    Table table({{"tensor", Table::Align::left},
                 {"shape"},
                 {"from", Table::Align::left},
                 {"to", Table::Align::left},
                 {"size"},
                 {"relative RMSE"},
                 {"", Table::Align::left}});
    for (const QuantizedTensor& t : report.tensors) {
        std::string remark = t.weighted ? "importance" : "";
        if (t.type.fallback) remark += remark.empty() ? "fallback" : ", fallback";
        table.row({t.type.name, shape_text(t.shape), name_of(t.type.from), name_of(t.type.to),
                   bytes_text(static_cast<double>(t.bytes_after)),
                   changed(t) ? significant(t.relative_error()) : "", remark});
    }
    return table.render();
}

/// Sizes and errors by format.
std::string format_table(const QuantizeReport& report) {
    struct Sum {
        int64_t tensors = 0, bytes = 0;
        double error = 0, values = 0;
    };
    std::map<DType, Sum> sums;
    for (const QuantizedTensor& t : report.tensors) {
        Sum& s = sums[t.type.to];
        ++s.tensors;
        s.bytes += t.bytes_after;
        s.error += t.squared_error;
        s.values += t.squared_values;
    }
    Table table({{"format", Table::Align::left}, {"tensors"}, {"size"}, {"relative RMSE"}});
    for (const auto& [dtype, s] : sums) {
        table.row({name_of(dtype), std::to_string(s.tensors),
                   bytes_text(static_cast<double>(s.bytes)),
                   s.values > 0 ? significant(std::sqrt(s.error / s.values)) : ""});
    }
    return table.render();
}

void print_report(const QuantizeOptions& options, const QuantizeTarget& target,
                  const QuantizeReport& report, Terminal& terminal) {
    terminal.out << (options.tensors ? tensor_table(report) + "\n" : "") << format_table(report);
    terminal.err << fmt::format(
        "{}: {} instead of {} ({}, {} bits per weight), relative RMSE {}\n",
        options.output.string(), bytes_text(static_cast<double>(report.bytes_after)),
        bytes_text(static_cast<double>(report.bytes_before)), target.name,
        significant(bits_per_weight(report)), significant(report.relative_error));
    int64_t fallbacks = 0;
    for (const QuantizedTensor& t : report.tensors) fallbacks += t.type.fallback;
    if (fallbacks > 0) {
        terminal.err << fmt::format(
            "{} have rows that are no whole blocks of the format meant for "
            "them and are stored in another (--tensors)\n",
            plural(fallbacks, "tensor"));
    }
}

}  // namespace

int quantize_command(const QuantizeOptions& options, Terminal& terminal) {
    QuantizeSettings settings;
    settings.target = parse_quantize_target(options.type);
    settings.pure = options.pure;
    settings.allow_requantize = options.allow_requantize;
    const fs::path input = model_path(options.input.string(), terminal);
    InputFiles(options.input.string(), terminal)
        .add(options.importance)
        .keep_from({options.output});
    ImportanceMatrix importance;
    if (!options.importance.empty()) {
        importance = read_importance(options.importance);
        settings.importance = &importance;
        settings.importance_name = options.importance.filename().string();
    }
    const WeightMap model = open_model(input, HfUse::convert);
    ThreadTeam team(options.threads);
    const QuantizeReport report = [&] {
        ProgressBar bar(terminal);
        return quantize_model(model, options.output, settings, team, bar.callback());
    }();
    if (options.json) {
        print_json(document(options, settings.target, report), terminal);
    } else {
        print_report(options, settings.target, report, terminal);
    }
    return 0;
}

}  // namespace muster::cli
