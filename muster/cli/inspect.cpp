// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <ostream>

#include "muster/cli/engine.h"
#include "muster/cli/json_text.h"
#include "muster/cli/table.h"
#include "muster/cli/text.h"
#include "muster/model/memory.h"
#include "muster/model/names.h"
#include "muster/model/request_routing.h"
#include "muster/model/summary.h"

namespace muster::cli {
namespace {

using Align = Table::Align;

std::string router_text(const FeedForwardConfig& layer, const RouterSpec& r) {
    if (layer.dense()) return "dense";
    std::string text = fmt::format("{} {:g}", selection_name(r.selection), r.value);
    text += fmt::format(" of {} scores, {} weights", score_name(r.score), weighting_name(r.weight));
    if (r.scale != 1.0f) text += fmt::format(" times {}", significant(r.scale));
    if (r.groups > 1) text += fmt::format(", {} of {} groups", r.groups_used, r.groups);
    return text;
}

std::string widths_text(const FeedForwardConfig& layer) {
    if (layer.equal_widths()) return std::to_string(layer.widths.front());
    const auto [low, high] = std::minmax_element(layer.widths.begin(), layer.widths.end());
    return fmt::format("{}-{}", *low, *high);
}

/// Layers of one make stand in one row.
Table layer_table(const ModelSummary& summary) {
    Table table({{"layers", Align::left},
                 {"experts"},
                 {"width"},
                 {"shared width"},
                 {"per token"},
                 {"router", Align::left}});
    const RequestRouting routing(summary.config);  // the default policy laid over the layers' own
    const auto cells = [&](int l) -> std::vector<std::string> {
        const FeedForwardConfig& layer = summary.config.layers[l];
        const double routed = summary.routed.empty() ? -1 : summary.routed[l];
        return {std::to_string(layer.experts()), widths_text(layer),
                layer.shared_width > 0 ? std::to_string(layer.shared_width) : "-",
                layer.dense() || routed < 0 ? "-" : significant(routed),
                router_text(layer, routing.layer(l).spec)};
    };
    const int layers = summary.config.num_layers();
    for (int first = 0, next = 0; first < layers; first = next) {
        std::vector<std::string> row = cells(first);
        for (next = first + 1; next < layers && cells(next) == row;) ++next;
        row.insert(row.begin(), next == first + 1 ? std::to_string(first)
                                                  : fmt::format("{}-{}", first, next - 1));
        table.row(std::move(row));
    }
    return table;
}

std::string formats_text(const ModelSummary& summary) {
    std::map<std::string_view, int64_t> bytes;
    for (const auto& tensor : summary.tensors) bytes[dtype_info(tensor.dtype).name] += tensor.bytes;
    std::string text;
    for (const auto& [name, size] : bytes)
        text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, bytes_text(double(size)));
    return text;
}

std::string facts(const ModelSummary& s) {
    const ModelConfig& c = s.config;
    const double file = double(s.weight_bytes);
    std::string out;
    const auto fact = [&](std::string_view name, const std::string& value) {
        out += fmt::format("{:<18}{}\n", name, value);
    };
    fact("name", c.name.empty() ? "-" : c.name);
    fact("architecture", c.architecture);
    fact("shape", fmt::format("{} layers, width {}, {} heads of {}, {} key/value heads",
                              c.num_layers(), c.d_model, c.heads, c.head_dim, c.kv_heads));
    fact("context", fmt::format("{} tokens", c.context));
    fact("vocabulary", s.vocabulary);
    fact("routing", c.policy.to_string());
    fact("parameters",
         fmt::format("{}, of which embedding {}, head {}", count_text(double(s.parameters.total)),
                     count_text(double(s.parameters.embedding)),
                     c.tied_head ? "tied to it" : count_text(double(s.parameters.head))));
    fact("activated",
         s.activated < 0
             ? "unknown: the default policy's experts per token were not measured"
             : fmt::format("{} per token, without embedding and head", count_text(s.activated)));
    fact("weights", fmt::format("{} ({}); routed experts {} ({:.0f} %)", bytes_text(file),
                                formats_text(s), bytes_text(double(s.expert_bytes)),
                                file > 0 ? 100 * double(s.expert_bytes) / file : 0));
    return out;
}

Table tensor_table(const ModelSummary& summary) {
    Table table(
        {{"tensor", Align::left}, {"shape", Align::left}, {"format", Align::left}, {"bytes"}});
    for (const auto& tensor : summary.tensors)
        table.row({tensor.name, fmt::format("{}", fmt::join(tensor.shape, " x ")),
                   std::string(dtype_info(tensor.dtype).name), std::to_string(tensor.bytes)});
    return table;
}

struct Memory {
    MemorySettings settings;
    MemoryNeed copied, mapped;  ///< as `run` does, and with --mmap
    FreeMemory free;
};

Memory memory_of(const InspectOptions& options, const Model& model, const Terminal& terminal) {
    Memory m;
    m.settings.context = options.context > 0 ? options.context : model.config().context;
    m.settings.kv = choose_kv(options.kv, model, Compute::int8);
    m.settings.workers = options.model.threads > 0 ? options.model.threads : available_cpus();
    m.mapped = memory_need(model, m.settings);
    m.settings.panels = true;
    m.copied = memory_need(model, m.settings);
    m.free = terminal.free_memory ? terminal.free_memory() : free_memory();
    return m;
}

std::string need_text(const MemoryNeed& need) {
    const double copied = double(need.made + need.panels);
    return fmt::format("{} ({}weights in the file {}, keys and values {}, workspace {})",
                       bytes_text(double(need.held() + need.mapped)),
                       copied > 0 ? fmt::format("copied weights {}, ", bytes_text(copied)) : "",
                       bytes_text(double(need.mapped)), bytes_text(double(need.caches)),
                       bytes_text(double(need.workspace)));
}

std::string memory_text(const Memory& m) {
    std::string out;
    const auto fact = [&](std::string_view name, const std::string& value) {
        out += fmt::format("{:<18}{}\n", name, value);
    };
    fact("memory", fmt::format("for {} tokens in {}: {}", m.settings.context,
                               dtype_info(m.settings.kv).name, need_text(m.copied)));
    fact("  with --mmap", need_text(m.mapped));
    fact("  free", fmt::format("{} by {}", bytes_text(double(m.free.bytes)), m.free.limit));
    return out;
}

ordered_json need_json(const MemoryNeed& need) {
    return {{"mapped_weights", need.mapped},
            {"copied_weights", need.made + need.panels},
            {"keys_and_values", need.caches},
            {"workspace", need.workspace}};
}

ordered_json memory_json(const Memory& m) {
    return {{"context", m.settings.context}, {"kv", dtype_info(m.settings.kv).name},
            {"run", need_json(m.copied)},    {"mmap", need_json(m.mapped)},
            {"free", m.free.bytes},          {"free_by", m.free.limit}};
}

}  // namespace

int inspect_command(const InspectOptions& options, Terminal& terminal) {
    const Model model = load_model(options.model, terminal);
    const ModelSummary summary = summarize(model);
    const Memory memory = memory_of(options, model, terminal);
    if (options.json) {
        ordered_json document = parsed(to_json(summary));
        document["memory"] = memory_json(memory);
        print_json(document, terminal);
        return 0;
    }
    terminal.out << facts(summary) << memory_text(memory) << '\n' << layer_table(summary).render();
    if (options.tensors) terminal.out << '\n' << tensor_table(summary).render();
    return 0;
}

}  // namespace muster::cli
