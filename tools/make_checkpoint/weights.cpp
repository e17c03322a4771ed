// SPDX-License-Identifier: Apache-2.0
#include "tools/make_checkpoint/weights.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "muster/core/error.h"
#include "muster/core/random.h"

namespace muster::checkpoints {
namespace {

// Clear routes: the embedding's values that routers read lie on a lattice from -kRouteRange to
// kRouteRange; layers write a tenth of what they write elsewhere.
constexpr double kRouteRange = 3;
constexpr double kRouteLeak = 0.1;
constexpr double kRouteSharpness = 0.7;  // router logits per unit of such a value

uint64_t text_hash(std::string_view text) noexcept {
    uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
    for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
    return hash;
}

/// About normal: the sum of four uniform numbers of 16 bits (Irwin-Hall), deviation 1.
double bell(uint64_t bits) noexcept {
    const auto sum = static_cast<double>((bits & 0xffff) + (bits >> 16 & 0xffff) +
                                         (bits >> 32 & 0xffff) + (bits >> 48));
    return (sum / 65536.0 - 2.0 + 2.0 / 65536.0) * std::numbers::sqrt3;
}

class Values {
  public:
    Values(const CheckpointSpec& spec, const TensorPlan& plan)
        : plan_(plan), key_(stream_seed(spec, plan)) {}

    double noise(int64_t row, int64_t col, int64_t cols) const noexcept {
        return bell(mix64(key_ + static_cast<uint64_t>(row * cols + col)));
    }
    double at(int64_t row, int64_t col, int64_t cols) const noexcept {
        return plan_.mean + plan_.deviation * noise(row, col, cols);
    }
    uint64_t key() const noexcept { return key_; }

  private:
    const TensorPlan& plan_;
    uint64_t key_;
};

/// The lattice's values in an order that the token decides.
void set_route_values(uint64_t key, int64_t token, double unit, std::span<float> values) {
    const size_t n = values.size();
    std::vector<std::pair<uint64_t, size_t>> order(n);
    for (size_t i = 0; i < n; ++i)
        order[i] = {mix64(key ^ mix64(static_cast<uint64_t>(token) * n + i)), i};
    std::ranges::sort(order);
    for (size_t rank = 0; rank < n; ++rank) {
        const double place = (2.0 * static_cast<double>(rank) + 1) / static_cast<double>(n) - 1;
        values[order[rank].second] = static_cast<float>(unit * kRouteRange * place);
    }
}

void fill_embedding(const CheckpointSpec& spec, const TensorPlan& plan, int64_t row,
                    std::span<float> out) {
    const Values values(spec, plan);
    for (int64_t i = 0; i < plan.cols(); ++i)
        out[i] = static_cast<float>(values.at(row, i, plan.cols()));
    if (spec.clear_routes)
        set_route_values(values.key(), row, plan.deviation, out.first(spec.experts));
}

/// Expert e of layer l reads the route value (e + 5 l) mod E, and a little of everything.
void fill_router(const CheckpointSpec& spec, const TensorPlan& plan, int64_t row,
                 std::span<float> out) {
    const Values values(spec, plan);
    const double deviation = plan.deviation * (spec.clear_routes ? 0.1 : 1.0);
    for (int64_t i = 0; i < plan.cols(); ++i)
        out[i] = static_cast<float>(deviation * values.noise(row, i, plan.cols()));
    if (!spec.clear_routes) return;
    std::fill_n(out.begin(), spec.experts, 0.0f);
    out[(row + 5 * plan.layer) % spec.experts] = static_cast<float>(kRouteSharpness);
}

/// Llama 3's frequency factors: 1 for short wavelengths, `factor` for long ones, and between them
/// a smooth passage (Llama 3.1's rope_scaling, low and high frequency factors 1 and 4).
float rope_factor(const CheckpointSpec& spec, int64_t i) {
    const double wavelength =
        2 * std::numbers::pi * std::pow(spec.rope_theta, 2.0 * i / spec.head_dim);
    const double turns = spec.scaling.original_context / wavelength;
    if (turns > 4) return 1;
    if (turns < 1) return static_cast<float>(spec.scaling.factor);
    const double smooth = (turns - 1) / 3;
    return static_cast<float>(1 / ((1 - smooth) / spec.scaling.factor + smooth));
}

/// The part of attn_kv_b that a row of attn_k_b or attn_v_b is.
void fill_latent_part(const CheckpointSpec& spec, const TensorPlan& plan, int64_t row,
                      std::span<float> out) {
    const LatentAttention& a = spec.latent;
    const Values values(spec, plan);
    const int64_t head = row / plan.shape[1];
    const int64_t inner = row % plan.shape[1];
    const int64_t first = head * (a.nope_dim + a.value_dim);
    for (int64_t i = 0; i < plan.cols(); ++i) {
        const double value = plan.role == Role::key_part
                                 ? values.at(first + i, inner, a.kv_rank)
                                 : values.at(first + a.nope_dim + inner, i, a.kv_rank);
        out[i] = static_cast<float>(value);
    }
}

void fill_plain(const CheckpointSpec& spec, const TensorPlan& plan, int64_t row,
                std::span<float> out) {
    const Values values(spec, plan);
    const bool quiet = plan.to_stream && spec.clear_routes && plan.role != Role::vector &&
                       row % plan.shape[plan.shape.size() - 2] < spec.experts;
    const double scale = quiet ? kRouteLeak : 1;
    for (int64_t i = 0; i < plan.cols(); ++i)
        out[i] = static_cast<float>(scale * values.at(row, i, plan.cols()));
    if (!spec.clear_routes) return;
    // What stands in the place of route values, along the last dimension.
    if (plan.role == Role::router_norm) std::fill_n(out.begin(), spec.experts, 1.0f);
    if (plan.role == Role::vector && plan.to_stream)
        for (int64_t i = 0; i < spec.experts; ++i) out[i] *= static_cast<float>(kRouteLeak);
}

}  // namespace

int64_t TensorPlan::rows() const noexcept {
    int64_t n = 1;
    for (size_t i = 0; i + 1 < shape.size(); ++i) n *= shape[i];
    return n;
}

void fill_row(const CheckpointSpec& spec, const TensorPlan& plan, int64_t row,
              std::span<float> out) {
    MUSTER_ASSERT(static_cast<int64_t>(out.size()) == plan.cols());
    switch (plan.role) {
        case Role::embedding:
            return fill_embedding(spec, plan, row, out);
        case Role::router:
            return fill_router(spec, plan, row, out);
        case Role::key_part:
        case Role::value_part:
            return fill_latent_part(spec, plan, row, out);
        case Role::rope_factors:
            for (size_t i = 0; i < out.size(); ++i)
                out[i] = rope_factor(spec, static_cast<int64_t>(i));
            return;
        default:
            return fill_plain(spec, plan, row, out);
    }
}

uint64_t stream_seed(const CheckpointSpec& spec, const TensorPlan& plan) noexcept {
    return mix64(spec.seed ^ text_hash(plan.source.empty() ? plan.name : plan.source));
}

double logit_deviation(const CheckpointSpec& spec) {
    return std::sqrt(2 * std::max(0.5, std::log(spec.vocab) - 2));
}

double logit_scale(const CheckpointSpec& spec) {
    // A tied head is the embedding, whose deviation is 1 / embedding_scale.
    if (spec.tied_head)
        return std::sqrt(spec.d_model) / (spec.embedding_scale * logit_deviation(spec));
    return 4;
}

}  // namespace muster::checkpoints
