// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/trace_writer.h"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>

namespace muster {
namespace {

using nlohmann::ordered_json;

std::string quoted(const std::string& text) {
    return ordered_json(text).dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

/// `[a,b]` of every layer, in one list.
template <typename Write>
void lists(std::string& line, std::span<const LayerRoutes> layers, Write write) {
    line += '[';
    for (size_t l = 0; l < layers.size(); ++l) {
        if (l > 0) line += ',';
        write(layers[l]);
    }
    line += ']';
}

}  // namespace

TraceWriter::TraceWriter(const Model& model, const RoutingPolicy& policy, Output write)
    : model_(model), write_(std::move(write)) {
    std::vector<int> experts;
    for (const FeedForwardConfig& ff : model.config().layers)
        experts.push_back(ff.dense() ? 0 : ff.experts());
    const ordered_json head = {
        {"format", "muster-trace"},      {"version", 1},
        {"model", model.config().name},  {"model_hash", fmt::format("{:016x}", model.hash())},
        {"routing", policy.to_string()}, {"experts", experts}};
    write_(head.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n");
}

void TraceWriter::document(const Document& document, std::span<const int32_t>) {
    ++document_;
    domain_ = document.domain.empty() ? "null" : quoted(document.domain);
}

void TraceWriter::token(const ScoredToken& token) {
    line_.clear();
    const auto out = std::back_inserter(line_);
    fmt::format_to(out, R"({{"document":{},"domain":{},"position":{},"id":{},"token":{},)",
                   document_, domain_, token.position, token.id,
                   quoted(model_.tokenizer().token_bytes(token.id)));
    fmt::format_to(out, R"("loss":{:.6g},"experts":)", token.loss);
    lists(line_, token.layers,
          [&](const LayerRoutes& r) { fmt::format_to(out, "[{}]", fmt::join(r.experts, ",")); });
    line_ += R"(,"weights":)";
    lists(line_, token.layers, [&](const LayerRoutes& r) {
        line_ += '[';
        for (size_t i = 0; i < r.weights.size(); ++i)
            fmt::format_to(out, "{}{:.6g}", i > 0 ? "," : "", r.weights[i]);
        line_ += ']';
    });
    line_ += R"(,"entropy":)";
    lists(line_, token.layers, [&](const LayerRoutes& r) {
        if (r.experts.empty()) {
            line_ += "null";
        } else {
            fmt::format_to(out, "{:.6g}", r.entropy);
        }
    });
    line_ += "}\n";
    write_(line_);
    ++tokens_;
}

}  // namespace muster
