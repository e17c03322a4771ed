// SPDX-License-Identifier: Apache-2.0
#include "muster/model/forward.h"

#include <gmock/gmock.h>

#include <numeric>

#include "muster/core/error.h"
#include "muster/core/thread_team.h"
#include "muster/cpu/isa.h"
#include "muster/kernels/norm.h"
#include "muster/model/export.h"
#include "muster/model/reference.h"
#include "muster/model/testing.h"
#include "muster/quant/convert.h"

namespace muster {
namespace {

using testing::Checkpoint;
using ::testing::HasSubstr;
using testing::random_checkpoint;
using testing::random_tokens;
using testing::Reference;
using testing::TemporaryDirectory;

// A logit of size 1 passes through about 30 sums of at most 40 f32 terms per layer; each adds a
// relative error near sqrt(40) * 2^-24 = 4e-7, and norms keep sizes near one. Three layers stay
// below 4e-5 unless a route flips.
constexpr double kTolerance = 1e-4;

Model exported(const Checkpoint& checkpoint, DType dtype = DType::f32) {
    const TemporaryDirectory directory;
    checkpoint.write(directory / "run");
    export_gguf(directory / "run", directory / "model.gguf", dtype);
    return Model::load(directory / "model.gguf");  // the mapping outlives the name
}

using Logits = std::vector<std::vector<float>>;

/// Feeds tokens in passes of `rows`, all logits wanted.
Logits logits_of(ForwardContext& context, KvCache& cache, RequestRouting& routing,
                 const std::vector<int32_t>& tokens, int rows, const PassOptions& options = {}) {
    Logits out;
    for (size_t i = 0; i < tokens.size(); i += rows) {
        std::vector<BatchRow> batch;
        for (size_t t = i; t < std::min(tokens.size(), i + rows); ++t)
            batch.push_back({tokens[t], &cache, &routing, true});
        context.forward(batch, options);
        const auto logits = context.logits(0, context.wanted());
        for (int64_t r = 0; r < logits.rows; ++r)
            out.emplace_back(logits.row(r), logits.row(r) + logits.cols);
    }
    return out;
}

Logits logits_of(const Model& model, const std::vector<int32_t>& tokens, int rows,
                 const PassOptions& options = {}, const RoutingPolicy& policy = {},
                 int threads = 2) {
    ThreadTeam team(threads);
    ForwardContext context(model, team, rows);
    KvCache cache(model.config(), model.config().context);
    RequestRouting routing(model.config(), policy);
    return logits_of(context, cache, routing, tokens, rows, options);
}

template <typename A, typename B>
double largest_difference(const A& a, const B& b) {
    double worst = a.size() == b.size() ? 0 : INFINITY;
    for (size_t t = 0; t < std::min(a.size(), b.size()); ++t)
        for (size_t i = 0; i < a[t].size(); ++i)
            worst = std::max(worst, std::abs(static_cast<double>(a[t][i]) - b[t][i]));
    return worst;
}

struct Routes : TraceSink {
    std::map<std::pair<int, int64_t>, std::vector<int32_t>> experts;
    void layer(const LayerTrace& trace) override {
        for (int t = 0; t < trace.routes.tokens(); ++t) {
            const auto e = trace.routes.token_experts(t);
            experts[{trace.layer, trace.rows.positions[t]}] = {e.begin(), e.end()};
        }
    }
};

class Forward : public ::testing::TestWithParam<ModelConfig> {};

TEST_P(Forward, EqualsAPlainImplementationOnEveryInstructionSet) {
    const Checkpoint checkpoint = random_checkpoint(GetParam());
    const Model model = exported(checkpoint);
    EXPECT_EQ(model.config().architecture, GetParam().architecture);
    const auto tokens = random_tokens(model.config(), 40);
    Reference reference(checkpoint);
    const auto expected = reference.logits(tokens);
    const Isa best = current_isa();
    for (const Isa isa : available_isas()) {
        set_isa(isa);
        Routes routes;
        const Logits logits = logits_of(model, tokens, 40, {.trace = &routes});
        EXPECT_LT(largest_difference(logits, expected), kTolerance) << isa_name(isa);
        for (const auto& [place, experts] : routes.experts) {
            const testing::Route& route = reference.routes()[place.first][place.second];
            ASSERT_EQ(experts.size(), route.size());
            for (size_t i = 0; i < route.size(); ++i) EXPECT_EQ(experts[i], route[i].first);
        }
    }
    set_isa(best);
}

TEST_P(Forward, DoesNotDependOnHowTokensAreCutIntoPasses) {
    const Model model = exported(random_checkpoint(GetParam()));
    const auto tokens = random_tokens(model.config(), 40);
    const Logits whole = logits_of(model, tokens, 40);
    for (const int rows : {1, 7, 16})
        EXPECT_LT(largest_difference(whole, logits_of(model, tokens, rows)), kTolerance) << rows;
}

TEST_P(Forward, DoesNotDependOnTheNumberOfThreads) {
    const Model model = exported(random_checkpoint(GetParam()));
    const auto tokens = random_tokens(model.config(), 40);
    const Logits one = logits_of(model, tokens, 40, {}, {}, 1);
    for (const int threads : {2, 3, 5})
        EXPECT_EQ(one, logits_of(model, tokens, 40, {}, {}, threads)) << threads;
}

TEST_P(Forward, UsesQuantisedWeightsAsTheyAreStored) {
    for (const DType dtype : {DType::f16, DType::bf16, DType::q8_0}) {
        Checkpoint checkpoint = random_checkpoint(GetParam());
        const Model model = exported(checkpoint, dtype);
        // The reference takes what the file holds, decoded: the tolerance stays that of f32 sums.
        for (auto& [name, t] : checkpoint.tensors) {
            if (t.shape.size() != 2 || name.ends_with("mlp.gate.weight")) continue;
            const int64_t cols = t.shape[1];
            if (cols % dtype_info(dtype).block_elements != 0) continue;
            std::vector<std::byte> stored(dtype_bytes(dtype, cols));
            for (int64_t r = 0; r < t.shape[0]; ++r) {
                encode_row(dtype, t.values.data() + r * cols, stored.data(), cols);
                decode_row(dtype, stored.data(), t.values.data() + r * cols, cols);
            }
        }
        const auto tokens = random_tokens(model.config(), 24);
        const auto expected = Reference(checkpoint).logits(tokens);
        for (const int rows : {1, 24})
            EXPECT_LT(largest_difference(logits_of(model, tokens, rows), expected), kTolerance)
                << dtype_info(dtype).name << " in passes of " << rows;
    }
}

TEST_P(Forward, RowsOfOneBatchAreIndependent) {
    const Model model = exported(random_checkpoint(GetParam()));
    const auto a = random_tokens(model.config(), 20, 3), b = random_tokens(model.config(), 13, 4);
    const Logits alone_a = logits_of(model, a, 20);
    const RoutingPolicy other = RoutingPolicy::parse("top-k:1");
    const Logits alone_b = logits_of(model, b, 20, {}, other);
    ThreadTeam team(2);
    ForwardContext context(model, team, 64);
    KvCache cache_a(model.config(), 20), cache_b(model.config(), 13);
    RequestRouting routing_a(model.config()), routing_b(model.config(), other);
    std::vector<BatchRow> rows;
    for (size_t t = 0; t < a.size(); ++t) {  // interleaved
        rows.push_back({a[t], &cache_a, &routing_a, true});
        if (t < b.size()) rows.push_back({b[t], &cache_b, &routing_b, true});
    }
    context.forward(rows);
    const auto logits = context.logits(0, context.wanted());
    Logits got_a, got_b;
    for (size_t r = 0; r < rows.size(); ++r)
        (rows[r].cache == &cache_a ? got_a : got_b)
            .emplace_back(logits.row(r), logits.row(r) + logits.cols);
    EXPECT_LT(largest_difference(got_a, alone_a), kTolerance);
    EXPECT_LT(largest_difference(got_b, alone_b), kTolerance);
    EXPECT_GT(largest_difference(logits_of(model, b, 20), alone_b), 0.01);  // the policy matters
}

INSTANTIATE_TEST_SUITE_P(Models, Forward,
                         ::testing::Values(testing::tiny_olmoe(), testing::tiny_muster()),
                         [](const auto& info) { return info.param.architecture; });

TEST(ForwardPass, TakesFixedRoutesAndReportsExperts) {
    const Model model = exported(random_checkpoint(testing::tiny_olmoe()));
    const auto tokens = random_tokens(model.config(), 12);
    struct Tables : TraceSink {
        std::vector<RouteTable> tables;
        void layer(const LayerTrace& trace) override { tables.push_back(trace.routes); }
    } recorded;
    const Logits free = logits_of(model, tokens, 12, {.trace = &recorded});
    EXPECT_EQ(free, logits_of(model, tokens, 12, {.fixed_routes = recorded.tables}));
    // Other routes, other logits; in several passes, so that positions find their entries.
    for (float& w : recorded.tables[1].weights) w *= 0.5f;
    const Logits halved = logits_of(model, tokens, 12, {.fixed_routes = recorded.tables});
    EXPECT_GT(largest_difference(free, halved), 0.01);
    EXPECT_LT(
        largest_difference(halved, logits_of(model, tokens, 5, {.fixed_routes = recorded.tables})),
        kTolerance);

    SerialExecutor executor;
    ForwardContext context(model, executor, 12);
    KvCache cache(model.config(), 12);
    RequestRouting routing(model.config(), RoutingPolicy::parse("top-k:3/2/1"));
    logits_of(context, cache, routing, tokens, 12);
    const auto experts = context.experts_of(5);
    EXPECT_EQ(std::vector<int32_t>(experts.begin(), experts.end()),
              (std::vector<int32_t>{3, 2, 1}));
}

TEST(ForwardPass, InterventionsChangeWhatTheyTouch) {
    const Model model = exported(random_checkpoint(testing::tiny_olmoe()));
    const auto tokens = random_tokens(model.config(), 12);
    const Logits plain = logits_of(model, tokens, 12);
    struct Touch : Intervention {
        bool ban = false;
        float factor = 1;
        bool touches(int l) const override { return l == 1; }
        void before_route(int, const RowInfo&, MatrixView<float> logits) override {
            if (ban)
                for (int64_t t = 0; t < logits.rows; ++t) logits(t, 0) = -1e4f;
        }
        void after_experts(int, const RowInfo&, MatrixView<float> y) override {
            for (int64_t i = 0; i < y.rows * y.cols; ++i) y.data[i] *= factor;
        }
    } touch;
    EXPECT_LT(largest_difference(plain, logits_of(model, tokens, 12, {.intervention = &touch})),
              kTolerance);
    touch.factor = 0;
    EXPECT_GT(largest_difference(plain, logits_of(model, tokens, 12, {.intervention = &touch})),
              0.01);
    touch.factor = 1;
    touch.ban = true;
    const Logits banned = logits_of(model, tokens, 12, {}, RoutingPolicy::parse("model,ban=1.0"));
    EXPECT_GT(largest_difference(plain, banned), 0.01);
}

TEST(ForwardPass, ShowsTheResidualStreamAfterEachLayer) {
    const Model model = exported(random_checkpoint(testing::tiny_muster()));
    const auto tokens = random_tokens(model.config(), 20);
    struct Last : ResidualSink {
        std::vector<int> layers;
        std::vector<int64_t> positions;
        std::vector<std::vector<float>> x;  ///< after the last layer
        int count = 0;
        void residual(int layer, const RowInfo& rows, MatrixView<const float> view) override {
            layers.push_back(layer);
            if (layer + 1 < count) return;
            positions.insert(positions.end(), rows.positions.begin(), rows.positions.end());
            for (int64_t t = 0; t < view.rows; ++t)
                x.emplace_back(view.row(t), view.row(t) + view.cols);
        }
    } last;
    last.count = model.config().num_layers();
    const Logits seen = logits_of(model, tokens, 12, {.residual = &last});
    EXPECT_EQ(seen, logits_of(model, tokens, 12));
    EXPECT_EQ(last.layers, (std::vector<int>{0, 1, 2, 0, 1, 2})) << "the dense layer too";
    ASSERT_EQ(last.x.size(), tokens.size());
    Logits read;
    SerialExecutor executor;
    for (size_t t = 0; t < tokens.size(); ++t) {
        EXPECT_EQ(last.positions[t], static_cast<int64_t>(t));
        std::vector<float>& x = last.x[t];
        const MatrixView<float> row(x.data(), 1, static_cast<int64_t>(x.size()));
        rms_norm(row, model.weights().final_norm, model.config().norm_eps, row);
        read.emplace_back(static_cast<size_t>(model.config().vocab));
        matmul(row, model.weights().head, {read.back().data(), 1, model.config().vocab}, executor);
    }
    EXPECT_LT(largest_difference(seen, read), 1e-5);
}

TEST(ForwardPass, LeavesCachesAloneWhenItFails) {
    const Model model = exported(random_checkpoint(testing::tiny_olmoe()));
    SerialExecutor executor;
    ForwardContext context(model, executor, 8);
    KvCache cache(model.config(), 4);
    RequestRouting routing(model.config());
    const auto pass = [&](const std::vector<int32_t>& tokens) {
        std::vector<BatchRow> rows;
        rows.reserve(tokens.size());
        for (const int32_t t : tokens) rows.push_back({t, &cache, &routing, false});
        context.forward(rows);
    };
    pass({1, 5});
    EXPECT_THROW(pass({1, 100000}), Error);
    EXPECT_THROW(pass({-1}), Error);
    EXPECT_THROW(pass({1, 2, 3}), Error);  // the context is full
    EXPECT_EQ(cache.length(), 2);
    const std::vector<float> nan(int64_t{model.config().kv_heads} * model.config().head_dim, NAN);
    cache.store(0, 0, nan.data(), nan.data());
    EXPECT_THROW(pass({7}), Error);
    EXPECT_EQ(cache.length(), 2);
}

/// The state after reading `tokens` in passes of at most `rows`, and the experts of every row.
struct ReadUnder {
    RequestRouting routing;
    std::vector<int32_t> experts;

    ReadUnder(const Model& model, std::span<const int32_t> tokens, int rows, Executor& executor,
              const char* policy = "mean:3")
        : routing(model.config(), RoutingPolicy::parse(policy)) {
        ForwardContext context(model, executor, rows);
        KvCache cache(model.config(), static_cast<int>(tokens.size()));
        for (size_t i = 0; i < tokens.size();) {
            std::vector<BatchRow> batch;
            const int most = std::min(rows, routing.rows_until_update(cache.length()));
            for (int r = 0; r < most && i < tokens.size(); ++r)
                batch.push_back({tokens[i++], &cache, &routing});
            context.forward(batch);
            for (int r = 0; r < context.rows(); ++r) {
                const auto row = context.experts_of(r);
                experts.insert(experts.end(), row.begin(), row.end());
            }
        }
    }
};

double mean_of(std::span<const int32_t> experts) {
    return std::accumulate(experts.begin(), experts.end(), 0.0) /
           static_cast<double>(experts.size());
}

TEST(ForwardPass, MeansAreHeldFromTheFirstToken) {
    const Model model = exported(random_checkpoint(testing::tiny_olmoe()));
    const auto tokens = random_tokens(model.config(), 2000);
    SerialExecutor executor;
    for (int k = 1; k <= 6; ++k) {
        const ReadUnder read(model, tokens, 256, executor, ("mean:" + std::to_string(k)).c_str());
        EXPECT_NEAR(mean_of(read.experts), k, 0.02 * k);
    }
    // Each layer its own, and bounds of a token that leave less room than E.
    const ReadUnder layers(model, tokens, 256, executor, "mean:1.5/3/5,min=1,max=5");
    for (int l = 0; l < 3; ++l) {
        double sum = 0;
        for (size_t i = l; i < layers.experts.size(); i += 3) sum += layers.experts[i];
        const double target = l == 0 ? 1.5 : l == 1 ? 3 : 5;
        EXPECT_NEAR(sum / 2000, target, 0.02 * target) << l;
    }
}

TEST(ForwardPass, ShortTextsHaveTheirMeanToo) {
    Checkpoint checkpoint = random_checkpoint(testing::tiny_olmoe());
    // Sharp: at the p of a flat router nearly all tokens would get one expert.
    for (int l = 0; l < checkpoint.config.num_layers(); ++l) {
        auto& router = checkpoint.tensors.at(tensor_names::layer(l, tensor_names::kRouter));
        for (float& x : router.values) x *= 20;
    }
    const Model model = exported(checkpoint);
    const auto tokens = random_tokens(model.config(), 64);
    SerialExecutor executor;
    for (const double k : {1.5, 3.0, 4.25}) {
        const std::string policy = "mean:" + std::to_string(k);
        for (const int length : {1, 5, 31, 32}) {
            const ReadUnder read(model, std::span(tokens).first(static_cast<size_t>(length)), 64,
                                 executor, policy.c_str());
            EXPECT_NEAR(mean_of(read.experts), k, 0.5 / length) << k << " " << length;
        }
        // The p that takes over is that of the scores.
        const ReadUnder read(model, tokens, 64, executor, policy.c_str());
        EXPECT_NEAR(mean_of(std::span(read.experts).last(32 * 3)), k, 0.25 * k) << k;
    }
}

TEST(ForwardPass, MeansAreHeldWithForcedExpertsToo) {
    const Model model = exported(random_checkpoint(testing::tiny_olmoe()));
    const auto tokens = random_tokens(model.config(), 400);
    SerialExecutor executor;
    const auto mean = [&](const char* policy, size_t length) {
        return mean_of(
            ReadUnder(model, std::span(tokens).first(length), 64, executor, policy).experts);
    };
    EXPECT_EQ(mean("mean:1,force=1.1", 400), 1);
    EXPECT_NEAR(mean("mean:2,force=1.1", 400), 2, 0.04);
    // Layer 1 cannot have fewer than 3: the others make up for it from the first token on.
    for (const size_t length : {20, 400})
        EXPECT_NEAR(mean("mean:2,force=1.1,force=1.2,force=1.3", length), 2, 0.04) << length;
    const auto refusal = [](const ModelConfig& config, const char* policy) -> std::string {
        try {
            RequestRouting(config, RoutingPolicy::parse(policy));
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    };
    EXPECT_THAT(refusal(model.config(), "mean:1,force=1.1,force=1.2"),
                HasSubstr("mean 1, expected 1.33333 to 6"));
    EXPECT_EQ(refusal(model.config(), "mean:1.4,force=1.1,force=1.2"), "");
    EXPECT_THAT(refusal(testing::tiny_muster(), "top-k:1,ban=0.0"), HasSubstr("layer 0 is dense"));
    EXPECT_THAT(refusal(testing::tiny_muster(), "top-k:1,force=0.0"),
                HasSubstr("layer 0 is dense"));
}

TEST(ForwardPass, MeansDoNotDependOnHowPassesAreCut) {
    const Model model = exported(random_checkpoint(testing::tiny_olmoe()));
    const auto tokens = random_tokens(model.config(), 150);
    SerialExecutor serial;
    // The second ends within the first window.
    for (const size_t length : {150, 20}) {
        const auto read = std::span(tokens).first(length);
        const ReadUnder whole(model, read, 256, serial, "mean:2.5");
        for (const int rows : {1, 5, 32}) {
            ThreadTeam team(rows == 5 ? 3 : 2);
            const ReadUnder cut(model, read, rows, team, "mean:2.5");
            EXPECT_EQ(cut.experts, whole.experts) << rows;
            EXPECT_EQ(cut.routing.controller_state(), whole.routing.controller_state()) << rows;
        }
    }
}

TEST(ForwardPass, StatesOfMeansComeBack) {
    const Model model = exported(random_checkpoint(testing::tiny_olmoe()));
    const auto tokens = random_tokens(model.config(), 100);
    SerialExecutor executor;
    ReadUnder read(model, tokens, 64, executor, "mean:2/3/4");
    RequestRouting copy(model.config(), read.routing.policy());
    const auto state = read.routing.controller_state();
    copy.restore_controllers(state);
    EXPECT_EQ(copy.layer(2).p, read.routing.layer(2).p);
    // Back to what 70 tokens leave: 64 of them are known.
    EXPECT_EQ(copy.resume(100), 100);
    EXPECT_EQ(copy.resume(70), 64);
    const ReadUnder less(model, std::span(tokens).first(64), 64, executor, "mean:2/3/4");
    EXPECT_EQ(copy.controller_state(), less.routing.controller_state());
    EXPECT_EQ(copy.layer(2).counted, 0);
    EXPECT_EQ(copy.resume(31), 0);
    EXPECT_EQ(copy.layer(2).counted, 4);
    // Within the first window too.
    const ReadUnder few(model, std::span(tokens).first(9), 64, executor, "mean:2/3/4");
    copy.restore_controllers(few.routing.controller_state());
    EXPECT_EQ(copy.controller_state(), few.routing.controller_state());
    EXPECT_EQ(copy.layer(2).counted, 4);
    copy.restart();
    EXPECT_EQ(copy.controller_state(),
              RequestRouting(model.config(), copy.policy()).controller_state());
    // A policy that takes over in the middle begins there.
    EXPECT_EQ(copy.resume(45), 45);
    EXPECT_EQ(copy.rows_until_update(45), 19);
    RequestRouting single(model.config(), RoutingPolicy::parse("mean:3"));
    EXPECT_THROW(single.restore_controllers(state), Error);
    EXPECT_THROW(copy.restore_controllers(std::vector<double>{0, 1e9, 0}), Error);
    RequestRouting none(model.config(), RoutingPolicy::parse("top-k:2"));
    EXPECT_EQ(none.resume(70), 70);
    EXPECT_THROW(none.restore_controllers(state), Error);
}

TEST(ForwardPass, ContextsFollowTheTextHoweverPassesAreCut) {
    Model model = exported(random_checkpoint(testing::tiny_olmoe()));
    model.add_plan("p", testing::random_plan(model, 2, 5));
    const auto tokens = random_tokens(model.config(), 150);
    SerialExecutor serial;
    const ReadUnder whole(model, tokens, 256, serial, "plan:p");
    EXPECT_TRUE(whole.routing.controlled());
    EXPECT_GE(whole.routing.context_cluster(), 0);
    for (const int rows : {1, 5, 32}) {
        ThreadTeam team(rows == 5 ? 3 : 2);
        const ReadUnder cut(model, tokens, rows, team, "plan:p");
        EXPECT_EQ(cut.routing.controller_state(), whole.routing.controller_state()) << rows;
        EXPECT_EQ(cut.routing.context_cluster(), whole.routing.context_cluster());
    }
    // As with means, a state comes back, also that of an earlier position.
    RequestRouting copy(model.config(), whole.routing.policy());
    EXPECT_EQ(copy.context_cluster(), -1);
    copy.restore_controllers(whole.routing.controller_state());
    EXPECT_EQ(copy.context_cluster(), whole.routing.context_cluster());
    EXPECT_EQ(copy.layer(1).boost, whole.routing.layer(1).boost);
    EXPECT_EQ(copy.resume(70), 64);
    const ReadUnder less(model, std::span(tokens).first(64), 64, serial, "plan:p");
    EXPECT_EQ(copy.controller_state(), less.routing.controller_state());
    EXPECT_EQ(copy.resume(31), 16);
    const ReadUnder few(model, std::span(tokens).first(16), 64, serial, "plan:p");
    EXPECT_EQ(copy.controller_state(), few.routing.controller_state());
    EXPECT_EQ(copy.resume(7), 0);
    copy.restart();
    EXPECT_EQ(copy.context_cluster(), -1);
}

TEST(ForwardPass, AContextTakesItsOwnImpacts) {
    Model model = exported(random_checkpoint(testing::tiny_olmoe()));
    const ActivationPlan plan = testing::random_plan(model, 2, 3);
    model.add_plan("p", plan);
    const auto tokens = random_tokens(model.config(), 40);
    const auto read = [&](const char* policy, int rows) {
        SerialExecutor executor;
        ForwardContext context(model, executor, 40);
        KvCache cache(model.config(), 40);
        RequestRouting routing(model.config(), RoutingPolicy::parse(policy));
        Routes routes;
        for (int t = 0; t < rows;) {
            std::vector<BatchRow> batch;
            const int end = std::min(rows, t + routing.rows_until_update(t));
            for (; t < end; ++t)
                batch.push_back({tokens[static_cast<size_t>(t)], &cache, &routing});
            context.forward(batch, {.trace = &routes});
        }
        for (int l = 0; l < 3; ++l)
            EXPECT_EQ(routing.layer(l).boost,
                      plan.boosts(l, PlanUse::both, plan.lambda, routing.context_cluster()));
        return std::pair(routes.experts, routing.context_cluster());
    };
    EXPECT_EQ(read("plan:p,use=global", 40).second, -1);
    EXPECT_EQ(read("plan:p", 7).second, -1);
    EXPECT_GE(read("plan:p", 8).second, 0) << "prompts may be short";
    EXPECT_EQ(read("plan:p", 7).first, read("plan:p,use=global", 7).first);
    EXPECT_NE(read("plan:p", 40).first, read("plan:p,use=global", 40).first);
}

TEST(ForwardPass, APassThatFailsSaysNothing) {
    Model model = exported(random_checkpoint(testing::tiny_olmoe()));
    model.add_plan("p", testing::random_plan(model, 2, 3));
    const auto tokens = random_tokens(model.config(), 8);
    SerialExecutor executor;
    struct Failure : TraceSink {
        void layer(const LayerTrace& t) override {
            if (t.layer == 2) throw Error("test", "stop");
        }
    } failure;
    for (const char* policy : {"plan:p", "mean:2"}) {
        const ReadUnder whole(model, tokens, 32, executor, policy);
        ForwardContext context(model, executor, 32);
        KvCache cache(model.config(), 32);
        RequestRouting routing(model.config(), RoutingPolicy::parse(policy));
        std::vector<BatchRow> rows;
        for (const int32_t id : tokens) rows.push_back({id, &cache, &routing});
        EXPECT_THROW(context.forward(rows, {.trace = &failure}), Error);
        context.forward(rows);
        EXPECT_EQ(routing.controller_state(), whole.routing.controller_state());
    }
}

}  // namespace
}  // namespace muster
