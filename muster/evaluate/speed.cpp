// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/speed.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "muster/core/buffer.h"
#include "muster/core/error.h"
#include "muster/core/random.h"
#include "muster/core/stats.h"
#include "muster/cpu/isa.h"
#include "muster/generate/token_losses.h"
#include "muster/model/forward.h"

namespace muster {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

Rate rate_of(const std::vector<double>& rates) {
    return {quantile(rates, 0.5), *std::min_element(rates.begin(), rates.end()),
            *std::max_element(rates.begin(), rates.end())};
}

/// Bytes per second that all workers together read from a buffer far larger than the caches: the
/// best of a few passes.
double memory_bandwidth(Executor& executor) {
    constexpr size_t kWords = size_t{1} << 26;  // 256 MiB
    constexpr int kPieces = 256;
    constexpr size_t kPiece = kWords / kPieces;
    Buffer<uint32_t> memory(kWords);
    std::vector<uint32_t> sums(kPieces);
    double best = 0;
    for (int pass = 0; pass < 5; ++pass) {
        const auto start = Clock::now();
        executor.run(kPieces, [&](int piece, int) {
            uint32_t* p = memory.data() + piece * kPiece;
            if (pass == 0) {
                std::fill_n(p, kPiece, static_cast<uint32_t>(piece));
                return;
            }
            uint32_t sum[16] = {};  // independent sums: the compiler makes vectors of them
            for (size_t i = 0; i < kPiece; i += 16)
                for (int j = 0; j < 16; ++j) sum[j] += p[i + j];
            for (const uint32_t s : sum) sums[piece] += s;
        });
        if (pass > 0) best = std::max(best, kWords * sizeof(uint32_t) / seconds_since(start));
    }
    // What was read is used, so that it cannot be left out.
    uint32_t all = 0;
    for (const uint32_t s : sums) all |= s;
    return all != 1 ? best : 0;
}

int64_t expert_bytes(const ExpertBank& bank) {
    int64_t bytes = 0;
    for (const Expert& e : bank.experts)
        for (const WeightMatrix* m : {&e.gate, &e.up, &e.down})
            if (!m->empty()) bytes += m->bytes();
    return bytes;
}

/// Bytes of weights read for one token that takes `experts` [L] of each MoE layer.
double token_bytes(const Model& model, const std::vector<double>& experts) {
    const ModelWeights& w = model.weights();
    auto bytes = static_cast<double>(w.head.bytes());
    for (size_t l = 0; l < w.layers.size(); ++l) {
        const LayerWeights& layer = w.layers[l];
        for (const WeightMatrix* m :
             {&layer.query, &layer.key, &layer.value, &layer.output, &layer.router})
            if (!m->empty()) bytes += static_cast<double>(m->bytes());
        bytes += static_cast<double>(expert_bytes(layer.shared));
        const double taken = model.config().layers[l].dense() ? 1 : experts[l];
        bytes += static_cast<double>(expert_bytes(layer.experts)) * taken /
                 std::max(1, layer.experts.size());
    }
    return bytes;
}

/// Throws Error where the tokens are more than a cache can be asked for.
int cache_tokens(const SpeedOptions& options) {
    constexpr int64_t kMost = 1 << 24;
    const int64_t tokens = int64_t{options.depth} + options.prompt_tokens + options.decode_tokens;
    if (tokens > kMost)
        throw Error("bench", "depth, prompt and decoded tokens are " + std::to_string(tokens) +
                                 " together, expected at most " + std::to_string(kMost));
    return static_cast<int>(tokens);
}

class SpeedRun {
  public:
    SpeedRun(const Model& model, Executor& executor, const SpeedOptions& options)
        : model_(model),
          options_(options),
          random_(options.seed),
          cache_(model.config(), cache_tokens(options), options.kv),
          context_(model, executor, options.max_rows, options.compute) {}

    SpeedResult measure(const RoutingPolicy& policy, int64_t done, int64_t total) {
        RequestRouting routing(model_.config(), policy);
        SpeedResult out;
        out.policy = policy.to_string();
        std::vector<double> prefill, decode;
        experts_.assign(model_.config().layers.size(), 0);
        decoded_ = 0;
        for (int run = -1; run < options_.repeats; ++run) {  // the first run warms up
            cache_.truncate(0);
            read(options_.depth, routing);
            auto start = Clock::now();
            read(options_.prompt_tokens, routing);
            const double read_seconds = seconds_since(start);
            start = Clock::now();
            for (int i = 0; i < options_.decode_tokens; ++i) write_one(routing, run >= 0);
            const double write_seconds = seconds_since(start);
            if (run >= 0) {
                prefill.push_back(options_.prompt_tokens / read_seconds);
                decode.push_back(options_.decode_tokens / write_seconds);
            }
            if (options_.progress && !options_.progress("measuring", done + run + 1, total))
                throw Error("speed", "the measurement was stopped");
        }
        out.prefill = rate_of(prefill);
        out.decode = rate_of(decode);
        int moe_layers = 0;
        for (size_t l = 0; l < experts_.size(); ++l) {
            experts_[l] /= static_cast<double>(decoded_);
            out.experts += experts_[l];
            moe_layers += !model_.config().layers[l].dense();
        }
        if (moe_layers > 0) out.experts /= moe_layers;
        out.bytes_per_token = token_bytes(model_, experts_);
        out.bytes_per_second = out.bytes_per_token * out.decode.median;
        return out;
    }

  private:
    int32_t any_token() { return static_cast<int32_t>(random_.below(model_.config().vocab)); }

    void read(int tokens, RequestRouting& routing) {
        for (int i = 0, end = 0; i < tokens; i = end) {
            const int most =
                std::min(options_.max_rows, routing.rows_until_update(cache_.length()));
            end = std::min(tokens, i + most);
            rows_.clear();
            for (int t = i; t < end; ++t)
                rows_.push_back({any_token(), &cache_, &routing, t + 1 == tokens});
            context_.forward(rows_);
        }
        if (tokens > 0) context_.logits(0, 1);
    }

    void write_one(RequestRouting& routing, bool count) {
        const BatchRow row{any_token(), &cache_, &routing, true};
        context_.forward({&row, 1});
        context_.logits(0, 1);
        if (!count) return;
        ++decoded_;
        const auto taken = context_.experts_of(0);
        for (size_t l = 0; l < experts_.size(); ++l) experts_[l] += taken[l];
    }

    const Model& model_;
    const SpeedOptions& options_;
    Random random_;
    KvCache cache_;
    ForwardContext context_;
    std::vector<BatchRow> rows_;
    std::vector<double> experts_;
    int64_t decoded_ = 0;
};

nlohmann::json rate_json(const Rate& r) {
    return {{"median", r.median}, {"low", r.low}, {"high", r.high}};
}

}  // namespace

SpeedReport measure_speed(const Model& model, Executor& executor, const SpeedOptions& options) {
    if (options.prompt_tokens < 1 || options.decode_tokens < 1 || options.repeats < 1 ||
        options.depth < 0 || options.max_rows < 1)
        throw Error("speed", "expected at least one prompt token, decoded token, row and run");
    for (const RoutingPolicy& policy : options.policies)
        evaluation_routing(model.config(), policy);  // refuses those that hold a speed
    SpeedReport report;
    report.threads = executor.workers();
    report.isa = isa_name(current_isa());
    report.memory_bytes_per_second = memory_bandwidth(executor);
    SpeedRun run(model, executor, options);
    const int64_t runs = options.repeats + 1;
    const auto total = runs * static_cast<int64_t>(options.policies.size());
    for (const RoutingPolicy& policy : options.policies) {
        const auto done = runs * static_cast<int64_t>(report.results.size());
        report.results.push_back(run.measure(policy, done, total));
    }
    return report;
}

std::optional<DecodeCost> decode_cost(const std::vector<SpeedResult>& results) {
    const auto n = static_cast<double>(results.size());
    double experts = 0, seconds = 0, square = 0, product = 0;
    for (const SpeedResult& r : results) {
        if (!(r.decode.median > 0)) return std::nullopt;
        experts += r.experts / n;
        seconds += 1 / r.decode.median / n;
    }
    for (const SpeedResult& r : results) {
        square += (r.experts - experts) * (r.experts - experts);
        product += (r.experts - experts) * (1 / r.decode.median - seconds);
    }
    if (!(square > 1e-6)) return std::nullopt;
    DecodeCost cost;
    cost.expert_seconds = product / square;
    cost.fixed_seconds = seconds - cost.expert_seconds * experts;
    for (const SpeedResult& r : results) {
        const double model = cost.fixed_seconds + cost.expert_seconds * r.experts;
        cost.worst_deviation =
            std::max(cost.worst_deviation, std::abs(model * r.decode.median - 1));
    }
    return cost;
}

std::string to_json(const SpeedReport& report) {
    using nlohmann::json;
    json results = json::array();
    for (const SpeedResult& r : report.results)
        results.push_back({{"policy", r.policy},
                           {"prefill_tokens_per_second", rate_json(r.prefill)},
                           {"decode_tokens_per_second", rate_json(r.decode)},
                           {"experts_per_token", r.experts},
                           {"bytes_per_token", r.bytes_per_token},
                           {"bytes_per_second", r.bytes_per_second}});
    json cost;
    if (const std::optional<DecodeCost> c = decode_cost(report.results))
        cost = {{"fixed_seconds", c->fixed_seconds},
                {"expert_seconds", c->expert_seconds},
                {"worst_deviation", c->worst_deviation}};
    const json out = {{"format", "muster-speed"},
                      {"version", 1},
                      {"threads", report.threads},
                      {"isa", report.isa},
                      {"memory_bytes_per_second", report.memory_bytes_per_second},
                      {"decode_cost", cost},
                      {"results", results}};
    return out.dump(1) + "\n";
}

}  // namespace muster
