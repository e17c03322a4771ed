// SPDX-License-Identifier: Apache-2.0
// Routing policies on every family: means are held, rows of one pass keep their own policy.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "muster/checkpoint/gguf.h"
#include "muster/core/atomic_file.h"
#include "muster/core/test_directory.h"
#include "muster/core/thread_team.h"
#include "muster/counterfactual/weight_sharing.h"
#include "muster/counterfactual/window.h"
#include "muster/generate/token_losses.h"
#include "muster/model/forward.h"
#include "muster/model/testing.h"
#include "tools/make_checkpoint/gguf_output.h"

namespace muster::checkpoints {
namespace {

/// A text read under a policy, pass by pass.
struct Reader {
    Reader(const Model& model, const std::string& text, int capacity)
        : policy(text),
          routing(model.config(), RoutingPolicy::parse(text)),
          cache(model.config(), capacity) {}

    /// Up to `most` rows of the next pass.
    void add(std::span<const int32_t> tokens, int most, std::vector<BatchRow>& rows) {
        const auto begin = static_cast<size_t>(cache.length());
        const int room = std::min(most, routing.rows_until_update(cache.length()));
        const size_t end = std::min(tokens.size(), begin + static_cast<size_t>(room));
        for (size_t t = begin; t < end; ++t) rows.push_back({tokens[t], &cache, &routing, false});
    }

    std::string policy;
    RequestRouting routing;
    KvCache cache;
    std::vector<int32_t> experts;  ///< [T, L]
};

/// Reads the tokens under all readers' policies in shared passes of `most` rows of each.
void read_all(ForwardContext& context, std::span<const int32_t> tokens, int most,
              std::vector<Reader*> readers) {
    for (std::vector<BatchRow> rows;; rows.clear()) {
        for (Reader* reader : readers) reader->add(tokens, most, rows);
        if (rows.empty()) return;
        context.forward(rows);
        for (size_t r = 0; r < rows.size(); ++r)
            for (Reader* reader : readers)
                if (rows[r].cache == &reader->cache) {
                    const auto counts = context.experts_of(static_cast<int>(r));
                    reader->experts.insert(reader->experts.end(), counts.begin(), counts.end());
                }
    }
}

std::vector<int> moe_layers(const ModelConfig& config) {
    std::vector<int> layers;
    for (int l = 0; l < config.num_layers(); ++l)
        if (!config.layers[l].dense()) layers.push_back(l);
    return layers;
}

double mean_of(const Reader& reader, const ModelConfig& config) {
    const std::vector<int> layers = moe_layers(config);
    double sum = 0, count = 0;
    for (size_t i = 0; i < reader.experts.size(); i += config.layers.size())
        for (const int l : layers) sum += reader.experts[i + static_cast<size_t>(l)], ++count;
    return sum / count;
}

/// Of a kilotoken or two, the first included.
void expect_means(const Model& model, std::span<const int32_t> tokens, const std::vector<int>& ks) {
    ThreadTeam team(2);
    ForwardContext context(model, team, 256);
    std::vector<std::unique_ptr<Reader>> readers;
    std::vector<Reader*> all;
    for (const int k : ks) {
        readers.push_back(std::make_unique<Reader>(model, "mean:" + std::to_string(k),
                                                   static_cast<int>(tokens.size())));
        all.push_back(readers.back().get());
    }
    read_all(context, tokens, 256 / static_cast<int>(ks.size()), all);
    for (size_t i = 0; i < ks.size(); ++i)
        EXPECT_NEAR(mean_of(*all[i], model.config()), ks[i], 0.02 * ks[i]) << ks[i];
}

/// 2,000 tokens of the held-out texts.
std::vector<int32_t> real_tokens(const Model& model) {
    std::vector<int32_t> tokens;
    for (const char* name : {"novels", "code", "law", "dictionary"}) {
        const auto more = model.tokenizer().encode(
            read_file(MUSTER_SOURCE_DIR "/models/heldout/" + std::string(name) + ".txt"));
        tokens.insert(
            tokens.end(), more.begin(),
            more.begin() + static_cast<std::ptrdiff_t>(std::min<size_t>(more.size(), 700)));
    }
    EXPECT_GE(tokens.size(), 2000u);
    tokens.resize(std::min<size_t>(tokens.size(), 2000));
    return tokens;
}

/// 1 to `most`; where sanitizers make each slow and find the same in any, three of them.
std::vector<int> every_number(int most) {
#ifdef MUSTER_SANITIZED
    return {1, (most + 1) / 2, most};
#else
    std::vector<int> ks(static_cast<size_t>(most));
    std::iota(ks.begin(), ks.end(), 1);
    return ks;
#endif
}

TEST(Policies, TheDefaultModelHoldsEveryMean) {
    const Model model = Model::load(MUSTER_SOURCE_DIR "/models/default.gguf");
    expect_means(model, real_tokens(model), every_number(model.config().layers[0].experts()));
}

class PoliciesOf : public ::testing::TestWithParam<std::string> {
  protected:
    Model load() {
        CheckpointSpec spec = preset(GetParam());
        spec.layers = std::min(spec.layers, 3);
        const GgufFile source(MUSTER_SOURCE_DIR "/models/default.gguf");
        write_gguf(spec, Tokenizer::from_gguf(source).vocabulary(),
                   {parse_file_type("f32"), false, 0}, directory_ / "model.gguf");
        return Model::load(directory_ / "model.gguf");
    }
    TemporaryDirectory directory_;
};

TEST_P(PoliciesOf, MeansAreHeld) {
    const Model model = load();
    const std::vector<int> layers = moe_layers(model.config());
    if (layers.empty()) GTEST_SKIP() << "dense";
    const int most = most_experts(RequestRouting(model.config()).layer(layers[0]));
    std::vector<int> ks{1, 2, 3, most / 2, most - 1, most};
    if (GetParam() == "tiny-qwen3moe") ks = every_number(most);
    expect_means(model, real_tokens(model), ks);
}

/// Exactly the baseline's activations for every token, with every part of a plan and every control.
TEST_P(PoliciesOf, PlansKeepTheTotalOfEveryToken) {
    Model model = load();
    const std::vector<int> layers = moe_layers(model.config());
    if (layers.empty()) GTEST_SKIP() << "dense";
    model.add_plan("p", testing::random_plan(model, 2, 3));
    std::vector<int32_t> tokens = real_tokens(model);
    tokens.resize(70);
    ThreadTeam team(2);
    ForwardContext context(model, team, 70);
    for (const char* use :
         {"both", "global", "layers", "experts", "random-layers", "random-experts", "random"}) {
        Reader reader(model, std::string("plan:p,use=") + use, 70);
        read_all(context, tokens, 70, {&reader});
        const size_t all = model.config().layers.size();
        ASSERT_EQ(reader.experts.size(), 70 * all);
        for (size_t t = 0; t < 70; ++t) {
            int total = 0;
            for (const int l : layers) total += reader.experts[t * all + static_cast<size_t>(l)];
            EXPECT_EQ(total, 2 * static_cast<int>(layers.size())) << use << " " << t;
        }
    }
}

/// Losses of the rows of a text, computed pass by pass.
std::vector<float> losses_of(const Model& model, Executor& executor, const std::string& policy,
                             std::span<const int32_t> tokens, DType kv, Intervention* touch) {
    ForwardContext context(model, executor, 256);
    KvCache cache(model.config(), static_cast<int>(tokens.size()), kv);
    RequestRouting routing(model.config(), RoutingPolicy::parse(policy));
    std::vector<float> losses(tokens.size() - 1);
    for (size_t first = 0; first < losses.size(); first += 256) {
        const size_t n = std::min<size_t>(256, losses.size() - first);
        std::vector<BatchRow> rows;
        for (size_t t = first; t < first + n; ++t)
            rows.push_back({tokens[t], &cache, &routing, true});
        context.forward(rows, {.intervention = touch});
        wanted_losses(context, tokens.subspan(first + 1, n), std::span(losses).subspan(first, n));
    }
    return losses;
}

/// Puts other routes in the place of one row's, in one layer.
struct OtherRoute final : Intervention {
    int at_layer = 0;
    int64_t position = 0;
    std::vector<int32_t> experts;
    std::vector<float> weights;
    bool touches(int l) const override { return l == at_layer; }
    void after_route(int, const RowInfo& rows, RouteTable& routes) override {
        RouteTable out;
        out.clear(routes.num_experts);
        for (int t = 0; t < routes.tokens(); ++t) {
            const bool here = rows.positions[static_cast<size_t>(t)] == position;
            const auto e = here ? std::span<const int32_t>(experts) : routes.token_experts(t);
            const auto w = here ? std::span<const float>(weights) : routes.token_weights(t);
            out.experts.insert(out.experts.end(), e.begin(), e.end());
            out.weights.insert(out.weights.end(), w.begin(), w.end());
            out.offsets.push_back(out.activations());
        }
        routes = std::move(out);
    }
};

/// What a window says of one expert less at one row equals a whole pass with these routes, in every
/// family, with rows in a second pass, over the first position and with rounded caches.
TEST_P(PoliciesOf, WindowsEqualWholePasses) {
    const Model model = load();
    const std::vector<int> layers = moe_layers(model.config());
    if (layers.empty()) GTEST_SKIP() << "dense";
    std::vector<int32_t> tokens = real_tokens(model);
    tokens.resize(static_cast<size_t>(std::min(300, model.config().context)));
    ThreadTeam team(2);
    const int last = static_cast<int>(tokens.size()) - 2;
    for (const DType kv : {DType::f32, DType::f16}) {
        Window window(model, team, static_cast<int>(tokens.size()), RoutingPolicy::parse("top-k:2"),
                      Compute::f32, kv);
        window.read(tokens);
        // Losses of these models reach 24 nats: f32 rounds in proportion. A key or value whose
        // last bits differ may be rounded to the next f16.
        const auto allowed = [&](float loss) {
            return (kv == DType::f32 ? 1e-5f : 1e-3f) * std::max(1.0f, loss);
        };
        for (const int l : {layers.front(), layers.back()}) {
            for (const int t : {0, 130, last}) {
                const int32_t e = window.routes(l).token_experts(t)[0];
                // The others share its weight: the route is known without a router.
                WeightSharing sharing(l);
                sharing.removed = {e};
                float loss = 0;
                const Branch branch{t, nullptr};
                window.branch(l, {&branch, 1}, &sharing, {&loss, 1});
                OtherRoute other;
                other.at_layer = l;
                other.position = t;
                other.experts = {window.routes(l).token_experts(t)[1]};
                other.weights = {window.routes(l).token_weights(t)[0] +
                                 window.routes(l).token_weights(t)[1]};
                const auto expected = losses_of(model, team, "top-k:2", tokens, kv, &other);
                const float whole = expected[static_cast<size_t>(t)];
                EXPECT_NEAR(loss, whole, allowed(whole)) << dtype_info(kv).name << l << ' ' << t;
            }
            RoutingPolicy more = RoutingPolicy::parse("top-k:2");
            more.values.assign(model.config().layers.size(), 2);
            more.values[static_cast<size_t>(l)] = 3;
            RequestRouting routing(model.config(), more);
            const std::vector<int> wanted{1, last};
            std::vector<float> losses(2);
            window.reroute(l, routing, wanted, losses);
            const auto expected = losses_of(model, team, more.to_string(), tokens, kv, nullptr);
            for (size_t i = 0; i < 2; ++i)
                EXPECT_NEAR(losses[i], expected[static_cast<size_t>(wanted[i])],
                            allowed(expected[static_cast<size_t>(wanted[i])]))
                    << dtype_info(kv).name << l;
        }
    }
}

/// The bar of an exact impact, on a trained model.
TEST(Policies, AnExactImpactOfTheDefaultModelIsThatOfAWholePass) {
    // With renormed weights it does not matter what a taken logit leaves to the others.
    constexpr const char* kPolicy = "top-k:2,weight=renorm";
    const Model model = Model::load(MUSTER_SOURCE_DIR "/models/default.gguf");
    std::vector<int32_t> tokens = real_tokens(model);
    tokens.resize(300);
    ThreadTeam team(2);
    Window window(model, team, 300, RoutingPolicy::parse(kPolicy));
    window.read(tokens);
    const int layers = model.config().num_layers();
    for (const int l : {0, layers / 2, layers - 1}) {
        for (const int t : {3, 100, 280}) {
            const auto own = window.routes(l).token_experts(t);
            for (const int32_t e : own) {
                RoutingPolicy policy = RoutingPolicy::parse(kPolicy);
                policy.ban = {{l, e}};
                RequestRouting without(model.config(), policy);
                const Branch branch{t, &without};
                float loss = 0;
                window.branch(l, {&branch, 1}, nullptr, {&loss, 1});
                // In the whole pass its logit is taken away at this position and layer alone.
                testing::Removal mask(l, t, e);
                const auto whole = losses_of(model, team, kPolicy, tokens, DType::f32, &mask);
                EXPECT_NEAR(loss, whole[static_cast<size_t>(t)], 1e-5) << l << ' ' << t;
            }
        }
    }
}

/// Batches of branches longer than a pass keep who belongs to whom.
TEST_P(PoliciesOf, ManyBranchesAreThoseOfOne) {
    const Model model = load();
    const std::vector<int> layers = moe_layers(model.config());
    if (layers.empty()) GTEST_SKIP() << "dense";
    std::vector<int32_t> tokens = real_tokens(model);
    tokens.resize(static_cast<size_t>(std::min(180, model.config().context)));
    ThreadTeam team(2);
    Window window(model, team, static_cast<int>(tokens.size()), RoutingPolicy::parse("top-k:2"));
    window.read(tokens);
    const int l = layers.back();
    WeightSharing sharing(l);
    std::vector<Branch> branches;
    for (int t = 0; t < window.rows(); ++t)
        for (const int32_t e : window.routes(l).token_experts(t)) {
            branches.push_back({t, nullptr});
            sharing.removed.push_back(e);
        }
    ASSERT_GT(branches.size(), 300u);
    std::vector<float> losses(branches.size());
    window.branch(l, branches, &sharing, losses);
    for (const size_t i : {size_t{0}, size_t{179}, size_t{180}, branches.size() - 1}) {
        WeightSharing one(l);
        one.removed = {sharing.removed[i]};
        float loss = 0;
        window.branch(l, {&branches[i], 1}, &one, {&loss, 1});
        EXPECT_NEAR(losses[i], loss, 1e-5) << i;
    }
}

TEST_P(PoliciesOf, RowsOfOnePassKeepTheirOwn) {
    Model model = load();
    const std::vector<int> layers = moe_layers(model.config());
    if (layers.empty()) GTEST_SKIP() << "dense";
    model.add_plan("p", testing::random_plan(model, 3, 3));
    const std::string l = std::to_string(layers.back());
    const std::vector<std::string> policies{
        "model",
        "top-k:1",
        "top-k:3",
        "top-p:0.5,max=4",
        "relative:0.5,min=2",
        "mean:2",
        "speed:20",
        "plan:p",
        "plan:p,use=global,lambda=2",
        "top-k:2,weight=renorm,ban=" + l + ".0,force=" + l + ".1",
        "top-k:2,weight=raw,shared=off"};
    std::vector<int32_t> tokens = real_tokens(model);
    tokens.resize(70);
    std::vector<std::unique_ptr<Reader>> alone;
    for (const std::string& policy : policies) {
        SerialExecutor executor;
        ForwardContext context(model, executor, 70);
        alone.push_back(std::make_unique<Reader>(model, policy, 70));
        read_all(context, tokens, 70, {alone.back().get()});
    }
    for (const int threads : {2, 3}) {
        ThreadTeam team(threads);
        ForwardContext context(model, team, 256);
        std::vector<std::unique_ptr<Reader>> shared;
        std::vector<Reader*> all;
        for (const std::string& policy : policies) {
            shared.push_back(std::make_unique<Reader>(model, policy, 70));
            all.push_back(shared.back().get());
        }
        read_all(context, tokens, 5 * threads, all);
        for (size_t i = 0; i < policies.size(); ++i)
            EXPECT_EQ(shared[i]->experts, alone[i]->experts) << policies[i] << " " << threads;
    }
    EXPECT_EQ(mean_of(*alone[1], model.config()), 1);
    EXPECT_EQ(mean_of(*alone[2], model.config()), 3);
}

std::vector<std::string> tiny_presets() {
    std::vector<std::string> names;
    for (const std::string& name : preset_names())
        if (name.starts_with("tiny-")) names.push_back(name);
    return names;
}

std::string test_name(const ::testing::TestParamInfo<std::string>& info) {
    std::string name = info.param;
    std::ranges::replace(name, '-', '_');
    return name;
}

INSTANTIATE_TEST_SUITE_P(Tiny, PoliciesOf, ::testing::ValuesIn(tiny_presets()), test_name);

}  // namespace
}  // namespace muster::checkpoints
