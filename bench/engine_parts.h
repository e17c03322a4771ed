// SPDX-License-Identifier: Apache-2.0
// What the benchmark of the whole engine counts and feeds: bytes that a token must read, caches
// filled without computing them, and the machine's bandwidth over a model's own weights.
#pragma once

#include <sys/resource.h>

#include <fstream>
#include <string>
#include <vector>

#include "metered_executor.h"
#include "muster/core/random.h"
#include "muster/model/forward.h"
#include "peak.h"

namespace muster::bench {

inline double bank_bytes(const ExpertBank& bank) {
    double bytes = 0;
    for (const Expert& e : bank.experts) {
        for (const WeightMatrix* m : {&e.gate, &e.up, &e.down}) {
            if (!m->empty()) bytes += static_cast<double>(m->bytes());
        }
    }
    return bytes;
}

/// Bytes that decoding must read, counted by part.
struct ModelBytes {
    double fixed = 0;                ///< attention, routers and shared experts of all layers
    double head = 0;                 ///< of the output projection
    std::vector<double> per_expert;  ///< [L] mean of one routed expert; of a dense layer, all

    explicit ModelBytes(const Model& model)
        : head(static_cast<double>(model.weights().head.bytes())) {
        for (const LayerWeights& layer : model.weights().layers) {
            for (const WeightMatrix* m :
                 {&layer.query, &layer.key, &layer.value, &layer.output, &layer.router}) {
                if (!m->empty()) fixed += static_cast<double>(m->bytes());
            }
            fixed += bank_bytes(layer.shared);
            per_expert.push_back(bank_bytes(layer.experts) / std::max(1, layer.experts.size()));
        }
    }
    /// With `experts` different experts in every layer that has so many.
    double with_experts(const ModelConfig& config, double experts) const {
        double bytes = fixed + head;
        for (size_t l = 0; l < per_expert.size(); ++l) {
            const FeedForwardConfig& layer = config.layers[l];
            bytes +=
                per_expert[l] * (layer.dense() ? 1 : std::min(experts, double(layer.experts())));
        }
        return bytes;
    }
};

/// Keys and values of one sequence, filled to `length` with random numbers, as if they had been
/// computed; the cost of attention does not depend on the values.
inline void fill_cache(KvCache& cache, int length, int vocab, Random& random) {
    std::vector<float> row;
    cache.truncate(0);
    for (int t = 0; t < length; ++t) {
        for (int l = 0; l < cache.layers(); ++l) {
            const KvLayerShape& s = cache.shape(l);
            const auto n = static_cast<size_t>(s.heads * std::max(s.key_dim, s.value_dim));
            while (row.size() < n + 61) row.push_back(static_cast<float>(random.normal()));
            const float* start = row.data() + random.below(60);
            cache.store(l, t, start, start);
        }
        cache.append(static_cast<int32_t>(random.below(static_cast<uint64_t>(vocab))));
    }
}

/// Reads other layers' expert weights at each call: far from what the step before has left in the
/// caches.
class WeightReader {
  public:
    WeightReader(const Model& model, MeteredExecutor& team) : model_(model), team_(team) {}
    double bytes_per_second() {
        const auto& layers = model_.weights().layers;
        next_ = (next_ + 5) % layers.size();
        const ExpertBank& bank = layers[next_].experts;
        const WeightMatrix& first = bank.experts.front().up;
        // A layer's experts lie side by side, in the file one kind of matrix after the other, in
        // panels expert by expert: a third of the layer's bytes either way.
        const auto bytes = static_cast<size_t>(first.bytes()) * bank.experts.size();
        return read_bandwidth(team_, first.data, bytes);
    }

  private:
    const Model& model_;
    MeteredExecutor& team_;
    size_t next_ = 0;
};

/// Counts the different experts of each pass, summed over layers.
class DistinctExperts final : public TraceSink {
  public:
    explicit DistinctExperts(const ModelBytes& bytes) : bytes_(bytes) {}
    void layer(const LayerTrace& trace) override {
        seen_.assign(static_cast<size_t>(trace.routes.num_experts), false);
        for (const int32_t e : trace.routes.experts) {
            if (seen_[static_cast<size_t>(e)]) continue;
            seen_[static_cast<size_t>(e)] = true;
            taken_ += bytes_.per_expert[static_cast<size_t>(trace.layer)];
        }
    }
    /// Bytes of them since the last call.
    double take() { return std::exchange(taken_, 0.0); }

  private:
    const ModelBytes& bytes_;
    std::vector<bool> seen_;
    double taken_ = 0;
};

/// Bytes of this process's memory: at its largest, and (Linux, else 0) what is no file's now.
inline double peak_resident_bytes() {
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return 1024.0 * static_cast<double>(usage.ru_maxrss);
}
inline double anonymous_bytes() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with("RssAnon:")) return 1024.0 * std::stod(line.substr(8));
    }
    return 0;
}

}  // namespace muster::bench
