// SPDX-License-Identifier: Apache-2.0
#include "muster/model/memory.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <vector>

#include "muster/core/error.h"
#include "muster/kernels/quantized_rows.h"
#include "muster/model/kv_cache.h"

namespace muster {
namespace {

constexpr int kLeastContext = 256;

std::string megabytes(int64_t bytes) {
    const double mb = static_cast<double>(bytes) * 1e-6;
    return mb < 1000 ? fmt::format("{:.0f} MB", mb) : fmt::format("{:.2f} GB", mb * 1e-3);
}

int64_t chunk_bytes(int64_t cols) {
    return (cols + kPanelChunk - 1) / kPanelChunk * static_cast<int64_t>(sizeof(QuantizedChunk));
}

/// Experts of a token that memory is foreseen for: twice the usual number. A policy may take more;
/// the workspace then grows.
int64_t foreseen_experts(const FeedForwardConfig& layer) {
    if (layer.dense()) return 1;
    const bool counted = layer.router.selection == Selection::top_k && layer.router.value > 0;
    const auto usual = counted ? static_cast<int64_t>(layer.router.value) : int64_t{4};
    return std::min<int64_t>(layer.experts(), 2 * usual);
}

/// Of the fused experts' part, the largest layer's.
int64_t expert_workspace(const ModelConfig& config, int64_t rows) {
    const int64_t d = config.d_model;
    int64_t most = 0;
    for (const FeedForwardConfig& layer : config.layers) {
        const int64_t width = *std::max_element(layer.widths.begin(), layer.widths.end());
        const int64_t a = rows * foreseen_experts(layer);
        // Results of the experts, and the hidden rows in floats or in bytes, the larger.
        most = std::max(most, a * (d * 4 + std::max(width * 4, chunk_bytes(width)) + 64));
    }
    return most + 2 * rows * chunk_bytes(d);  // rows quantised with scales of both lengths
}

/// Known before and after they are made.
int64_t transposed_bytes(const ModelWeights& weights) {
    int64_t bytes = 0;
    for (const LayerWeights& layer : weights.layers) {
        if (layer.latent.whole.empty()) continue;
        for (const WeightMatrix& keys : layer.latent.keys) bytes += keys.bytes();
    }
    return bytes;
}

int64_t workspace_bytes(const Model& model, const MemorySettings& s) {
    const ModelConfig& c = model.config();
    const KvLayerShape kv = kv_shape(c);
    const int64_t rows = s.rows, q = int64_t{c.heads} * std::max(c.head_dim, kv.key_dim);
    const int64_t keys = int64_t{kv.heads} * (kv.key_dim + kv.value_dim);
    int64_t experts = 1;
    for (const FeedForwardConfig& layer : c.layers)
        experts = std::max<int64_t>(experts, layer.experts());
    const int64_t floats =
        rows * (4 * int64_t{c.d_model} + 2 * q + keys + experts + c.num_layers());
    constexpr int64_t kPerWorker = int64_t{2} << 20;  // packed weights and tiles
    constexpr int64_t kProgram = int64_t{16} << 20;
    const int64_t vocabulary = int64_t{c.vocab} * (4 * std::min(s.sequences, 32) + 16 + 256);
    return floats * 4 + expert_workspace(c, rows) +
           rows * chunk_bytes(std::max<int64_t>(q, c.d_model)) + s.workers * kPerWorker +
           vocabulary + kProgram + transposed_bytes(model.weights());
}

int context_of(const Model& model, const MemorySettings& s) {
    return s.context > 0 ? s.context : std::max(1, model.config().context);
}

/// What a user can do about it, the most effective first.
std::string advice(const MemoryNeed& need, const MemorySettings& s) {
    std::vector<std::string> of_weights, of_caches;
    if (need.made > 0) {
        of_weights.emplace_back("a GGUF file of the model (muster convert)");
    } else if (need.panels > 0) {
        of_weights.emplace_back("--mmap, which reads the weights from the file");
        of_weights.emplace_back("a smaller format of the model (muster quantize)");
    }
    if (s.context > kLeastContext) of_caches.push_back(fmt::format("a --ctx below {}", s.context));
    if (s.kv != DType::q8_0)
        of_caches.emplace_back(s.kv == DType::f32 ? "--kv f16 or q8_0" : "--kv q8_0");
    const bool weights_first = need.made + need.panels >= need.caches;
    std::vector<std::string>& all = weights_first ? of_weights : of_caches;
    const std::vector<std::string>& rest = weights_first ? of_caches : of_weights;
    all.insert(all.end(), rest.begin(), rest.end());
    if (all.empty()) all.emplace_back("a smaller model");
    return fmt::format("{}", fmt::join(all, ", "));
}

}  // namespace

MemoryNeed memory_need(const Model& model, const MemorySettings& settings) {
    MemoryNeed need;
    const WeightMap& file = model.file();
    int64_t released = 0;  // made only to be copied
    for (const auto& [name, tensor] : file.tensors()) {
        (file.in_files(tensor.data) ? need.mapped : need.made) += tensor.bytes();
        if (tensor.data == nullptr) released += tensor.bytes();
    }
    if (settings.panels) {
        need.panels =
            static_cast<int64_t>(model.panel_bytes() > 0 ? model.panel_bytes()
                                                         : PanelWeights::bytes_of(model.weights()));
        for (const std::string& name : PanelWeights::copied(model.weights(), file))
            released += file.tensors().find(name)->second.bytes();
        need.made -= released;
        // A head that is the embedding stays in the file, too, for the rows that prompts read.
        need.mapped = std::max<int64_t>(0, need.mapped - (need.panels - released));
    }
    need.caches = settings.sequences *
                  KvCache::bytes(model.config(), context_of(model, settings), settings.kv);
    need.workspace = workspace_bytes(model, settings);
    return need;
}

int default_context(const Model& model, MemorySettings settings, const FreeMemory& free) {
    const int own = std::max(1, model.config().context);
    const auto fits = [&](int context) {
        settings.context = context;
        const MemoryNeed need = memory_need(model, settings);
        // Beside the weights' pages, where those fit at all.
        const int64_t pages = need.mapped + need.workspace < free.bytes ? need.mapped : 0;
        return need.held() + pages <= free.bytes;
    };
    if (fits(own)) return own;
    auto context = static_cast<int>(std::bit_floor(static_cast<unsigned>(own)));
    if (context == own) context /= 2;
    while (context > kLeastContext && !fits(context)) context /= 2;
    return std::min(own, std::max(context, kLeastContext));
}

void check_memory(const Model& model, const MemorySettings& settings, const FreeMemory& free) {
    const MemoryNeed need = memory_need(model, settings);
    if (need.held() <= free.bytes) return;
    MemorySettings s = settings;
    s.context = context_of(model, settings);
    const int64_t weights_bytes = need.made + need.panels;
    const std::string weights =
        weights_bytes > 0 ? "weights " + megabytes(weights_bytes) + ", " : std::string();
    throw Error(
        "memory",
        fmt::format("{} are needed ({}keys and values of {} tokens in {} {}, workspace {}) "
                    "and {} are free by {}, expected {}",
                    megabytes(need.held()), weights, s.context, dtype_info(s.kv).name,
                    megabytes(need.caches), megabytes(need.workspace),
                    megabytes(std::max<int64_t>(0, free.bytes)), free.limit, advice(need, s)));
}

}  // namespace muster
