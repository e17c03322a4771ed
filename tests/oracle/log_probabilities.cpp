// SPDX-License-Identifier: Apache-2.0
// What Muster expects after every token, for comparison with other engines:
//
//     log_probabilities MODEL.gguf POLICY OUT.f32 [f32|int8] < IDS.json
//
// f32 (the default): weights are widened. int8: as `muster` runs block formats, weights in panels.
// IDS.json: [[id, …], …], sequences that start from nothing. OUT.f32: natural logarithms of the
// next token's probabilities, [all tokens, vocab] row-major float32 of this machine. Standard
// output: {"vocab": V, "gate_gaps": [g, …]}, where g is, over the layers of that token, the
// smallest distance between the router logits of the last expert taken and the best one left out:
// where it is within the rounding of router logits, another engine may rightly take another expert.
// Where experts are chosen by biased scores, or by groups, it is the distance of those scores, in
// logits: at most what has to happen to logits for another choice.
#include <algorithm>
#include <functional>
#include <iostream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/thread_team.h"
#include "muster/kernels/softmax.h"
#include "muster/model/forward.h"
#include "muster/model/model.h"
#include "muster/model/request_routing.h"

namespace {

using muster::BatchRow;

constexpr int kPassRows = 256;
constexpr int kHeadRows = 32;

/// gaps(): of the rows of all passes so far, as in the head of this file.
class GateGaps final : public muster::TraceSink {
  public:
    explicit GateGaps(const muster::Model& model) : model_(model) {}

    void start_pass(size_t rows) {
        first_ = gaps_.size();
        gaps_.resize(first_ + rows, std::numeric_limits<float>::infinity());
    }

    void layer(const muster::LayerTrace& trace) override {
        const muster::RouterSpec& spec = model_.config().layers[trace.layer].router;
        const std::span<const float> bias =
            model_.weights().layers[trace.layer].router_parameters.selection_bias;
        const int experts = trace.routes.num_experts;
        std::vector<bool> taken;
        std::vector<float> keys;
        for (int t = 0; t < trace.routes.tokens(); ++t) {
            taken.assign(experts, false);
            for (const int32_t e : trace.routes.token_experts(t)) taken[e] = true;
            const float* logits = trace.logits.row(t);
            keys.assign(logits, logits + experts);
            if (!bias.empty() || spec.groups > 1) {
                // A softmax's or sigmoid's score moves by a quarter of its logit at most.
                for (int e = 0; e < experts; ++e)
                    keys[e] = 4 * (trace.scores(t, e) + (bias.empty() ? 0.0f : bias[e]));
            }
            float& gap = gaps_[first_ + t];
            gap = std::min(gap, smallest_gap(spec, taken, keys));
        }
    }

    const std::vector<float>& gaps() const noexcept { return gaps_; }

  private:
    /// Experts compete inside the groups that were taken, and groups with each other, by the mean
    /// of their best keys.
    static float smallest_gap(const muster::RouterSpec& spec, const std::vector<bool>& taken,
                              const std::vector<float>& keys) {
        constexpr float kInfinity = std::numeric_limits<float>::infinity();
        const size_t size = keys.size() / spec.groups;
        float worst_in = kInfinity, best_out = -kInfinity;
        float worst_group = kInfinity, best_other = -kInfinity;
        for (size_t first = 0; first < keys.size(); first += size) {
            std::vector<float> members(keys.begin() + first, keys.begin() + first + size);
            std::ranges::sort(members, std::greater<>());
            const size_t top = std::min<size_t>(spec.group_top, size);
            const float sum = std::accumulate(members.begin(), members.begin() + top, 0.0f) / top;
            const auto begin = taken.begin() + first;
            if (std::find(begin, begin + size, true) == begin + size) {
                best_other = std::max(best_other, sum);
                continue;
            }
            worst_group = std::min(worst_group, sum);
            for (size_t e = first; e < first + size; ++e)
                if (taken[e])
                    worst_in = std::min(worst_in, keys[e]);
                else
                    best_out = std::max(best_out, keys[e]);
        }
        return std::min(worst_in - best_out, worst_group - best_other);
    }

    const muster::Model& model_;
    size_t first_ = 0;
    std::vector<float> gaps_;
};

/// Writes the log-probabilities that follow the rows of the last pass.
void write_rows(muster::ForwardContext& context, muster::AtomicFile& out) {
    for (int first = 0; first < context.wanted(); first += kHeadRows) {
        const int count = std::min(kHeadRows, context.wanted() - first);
        const muster::MatrixView<float> logits = context.logits(first, count);
        for (int r = 0; r < count; ++r) {
            const std::span<float> row(logits.row(r), static_cast<size_t>(logits.cols));
            const double total = muster::log_sum_exp(row);
            for (float& x : row) x = static_cast<float>(x - total);
            out.write(std::as_bytes(row));
        }
    }
}

void run(const char* model_path, const char* policy, const char* out_path, bool integers) {
    const std::string input(std::istreambuf_iterator<char>(std::cin), {});
    const auto sequences = nlohmann::json::parse(input).get<std::vector<std::vector<int32_t>>>();
    muster::ThreadTeam team;
    const muster::Model model =
        muster::Model::load(model_path, {.panels = integers ? &team : nullptr});
    muster::ForwardContext context(model, team, kPassRows,
                                   integers ? muster::Compute::int8 : muster::Compute::f32);
    GateGaps gaps(model);
    muster::AtomicFile out(out_path);
    for (const std::vector<int32_t>& tokens : sequences) {
        muster::RequestRouting routing(model.config(), muster::RoutingPolicy::parse(policy));
        muster::KvCache cache(model.config(), std::max(1, static_cast<int>(tokens.size())));
        for (size_t first = 0; first < tokens.size(); first += kPassRows) {
            std::vector<BatchRow> rows;
            for (size_t t = first; t < std::min(tokens.size(), first + kPassRows); ++t)
                rows.push_back({tokens[t], &cache, &routing, true});
            gaps.start_pass(rows.size());
            context.forward(rows, {.trace = &gaps});
            write_rows(context, out);
        }
    }
    out.commit();
    std::cout << nlohmann::json{{"vocab", model.config().vocab}, {"gate_gaps", gaps.gaps()}}
              << '\n';
}

}  // namespace

int main(int argc, char** argv) {
    const std::string compute = argc == 5 ? argv[4] : "f32";
    if (argc < 4 || argc > 5 || (compute != "f32" && compute != "int8")) {
        std::cerr << "usage: log_probabilities MODEL.gguf POLICY OUT.f32 [f32|int8] < IDS.json\n";
        return 2;
    }
    try {
        run(argv[1], argv[2], argv[3], compute == "int8");
    } catch (const std::exception& error) {
        std::cerr << "log_probabilities: " << error.what() << '\n';
        return 1;
    }
    return 0;
}
