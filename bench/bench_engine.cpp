// SPDX-License-Identifier: Apache-2.0
// The engine's speed on a whole model (--model FILE), beside what the machine can do at that
// moment:
//   prefill   --prompt (512) tokens: operations against the int8 peak before and after
//   decode    one token after --depth (512): bytes that it must read against the read bandwidth,
//             which is measured before and after each; and 32 tokens without a pause
//   experts   decoding with top-k:1 to 16, a line through the times, its start against no experts
//   uneven    a prompt whose tokens all go to the same experts (8, then 1), beside random ones
//   batch     1, 4 and 16 sequences at once: bytes of the experts that their tokens share once
//   long      decode and prefill after --long (8192) tokens
// --only PART runs one of them; --kv FORMAT (f16), --compute f32|bf16|int8, --runs scales them all;
// --rows 1 leaves the weights in the file's order instead of panels.
// A file of real shape with random weights: make_checkpoint olmoe-1b-7b --type q4_k_m
// --random-blocks. Tokens are random, so that their experts differ from step to step.
#include <array>
#include <cmath>
#include <memory>

#include "engine_parts.h"
#include "layer.h"
#include "measure.h"
#include "muster/core/error.h"
#include "muster/model/model.h"

using namespace muster;
using namespace muster::bench;

namespace {

struct Settings {
    int runs, prompt, depth, long_depth;
    DType kv;
    Compute compute;
    std::string only;

    Settings(int argc, char** argv)
        : runs(int_option(argc, argv, "--runs", 5)),
          prompt(int_option(argc, argv, "--prompt", 512)),
          depth(int_option(argc, argv, "--depth", 512)),
          long_depth(int_option(argc, argv, "--long", 8192)),
          kv(parse_dtype(text_option(argc, argv, "--kv", "f16"))),
          only(text_option(argc, argv, "--only", "")) {
        const std::string name = text_option(argc, argv, "--compute", "int8");
        if (name != "f32" && name != "bf16" && name != "int8") {
            throw Error("--compute", "\"" + name + "\" is not f32, bf16 or int8");
        }
        compute = name == "f32" ? Compute::f32 : name == "bf16" ? Compute::bf16 : Compute::int8;
        if (runs < 1 || prompt < 1 || depth < 0 || long_depth < 0) {
            throw Error("arguments", "expected at least one run and one prompt token");
        }
    }
    bool wants(const char* part) const { return only.empty() || only == part; }
};

class EngineBench {
  public:
    EngineBench(const Model& model, MeteredExecutor& team, const Settings& s, Report& report)
        : model_(model),
          team_(team),
          s_(s),
          report_(report),
          bytes_(model),
          reader_(model, team),
          context_(model, team, std::max(16, std::min(512, s.prompt)), s.compute) {}

    void prefill(const char* what, int depth, int runs);
    void decode(const char* what, int depth, int steps);
    void experts();
    void uneven(int experts);
    void batch(int sequences);

  private:
    const ModelConfig& config() const { return model_.config(); }
    int32_t any_token() {
        return static_cast<int32_t>(random_.below(static_cast<uint64_t>(config().vocab)));
    }
    /// Seconds of one pass over --prompt random tokens behind what `kv` holds, which it forgets.
    double prompt_pass(KvCache& kv, RequestRouting& routing, const PassOptions& options);
    /// Filled to `depth`, with room for `more` tokens.
    std::unique_ptr<KvCache> cache(int depth, int more) {
        auto out = std::make_unique<KvCache>(config(), depth + more, s_.kv);
        fill_cache(*out, depth, config().vocab, random_);
        return out;
    }
    double compute_peak() {
        return s_.compute == Compute::int8   ? int8_peak(team_, 0.2)
               : s_.compute == Compute::bf16 ? bf16_peak(team_, 0.2)
                                             : f32_peak(team_, 0.2);
    }
    /// Seconds of one more token for each cache; the caches are as before.
    double step(std::span<const std::unique_ptr<KvCache>> caches, RequestRouting& routing,
                const PassOptions& options = {}) {
        rows_.clear();
        for (const auto& c : caches) rows_.push_back({any_token(), c.get(), &routing, true});
        const double seconds = team_.time_of([&] {
            context_.forward(rows_, options);
            context_.logits(0, static_cast<int>(caches.size()));
        });
        for (const auto& c : caches) c->truncate(c->length() - 1);
        return seconds;
    }
    /// The mean number of experts that the checkpoint's own policy takes in a layer.
    double usual_experts(const RequestRouting& routing) const;

    const Model& model_;
    MeteredExecutor& team_;
    const Settings& s_;
    Report& report_;
    const ModelBytes bytes_;
    WeightReader reader_;
    ForwardContext context_;
    Random random_{1};
    std::vector<BatchRow> rows_;
};

double EngineBench::usual_experts(const RequestRouting& routing) const {
    double sum = 0;
    int layers = 0;
    for (int l = 0; l < config().num_layers(); ++l) {
        if (config().layers[static_cast<size_t>(l)].dense()) continue;
        sum += expected_experts(config(), routing, l);
        ++layers;
    }
    return layers > 0 ? sum / layers : 1;
}

void EngineBench::prefill(const char* what, int depth, int runs) {
    RequestRouting routing(config());
    const auto kv = cache(depth, s_.prompt);
    std::vector<double> taken;
    for (int l = 0; l < config().num_layers(); ++l) {
        taken.push_back(expected_experts(config(), routing, l));
    }
    const double operations = 2 * count_parameters(config()).activated(taken) * s_.prompt;
    Samples rate, share, peak;
    double before = compute_peak();
    for (int run = -1; run < runs; ++run) {  // the first one brings the file into memory
        const double seconds = prompt_pass(*kv, routing, {});
        const double after = compute_peak();
        const double most = std::max(before, after);
        before = after;
        if (run < 0) continue;
        rate.add(s_.prompt / seconds);
        peak.add(most);
        if (most > 0) share.add(operations / seconds / most);
    }
    const std::string name = what;
    report_.line(name.c_str(), rate, "tokens/s", 1);
    if (!share.values.empty())
        report_.line((name + ", share of the peak").c_str(), share, "%", 100);
    report_.line((name + ", peak").c_str(), peak, "GFLOP/s", 1e-9);
}

void EngineBench::decode(const char* what, int depth, int steps) {
    RequestRouting routing(config());
    std::vector<std::unique_ptr<KvCache>> kv;
    kv.push_back(cache(depth, 1));
    const double bytes = bytes_.with_experts(config(), usual_experts(routing)) +
                         static_cast<double>(KvCache::bytes(config(), depth + 1, s_.kv));
    Samples rate, share, bandwidth, total;
    double before = reader_.bytes_per_second();
    for (int i = -4; i < steps; ++i) {
        const double seconds = step(kv, routing);
        const double after = reader_.bytes_per_second();
        const double read = (before + after) / 2;
        before = after;
        if (i < 0) continue;
        rate.add(1 / seconds);
        bandwidth.add(read);
        share.add(bytes / seconds / read);
    }
    total.add(bytes);
    Samples flowing;  // nothing read in between: what is left in the caches helps
    for (int i = 0; i < s_.runs; ++i) {
        constexpr int kTokens = 32;
        double seconds = 0;
        for (int t = 0; t < kTokens; ++t) seconds += step(kv, routing);
        flowing.add(kTokens / seconds);
    }
    const std::string name = what;
    report_.line((name + ", token after token").c_str(), flowing, "tokens/s", 1);
    report_.line(name.c_str(), rate, "tokens/s", 1);
    report_.line((name + ", share of reading").c_str(), share, "%", 100);
    report_.line((name + ", reading").c_str(), bandwidth, "GB/s", 1e-9);
    report_.line((name + ", bytes of a token").c_str(), total, "MB", 1e-6);
}

/// Rounds of all numbers of experts in turn; a line through the medians by least squares.
void EngineBench::experts() {
    constexpr std::array<int, 7> kNumbers = {1, 2, 4, 6, 8, 12, 16};
    std::vector<RequestRouting> routings;
    for (const int n : kNumbers) {
        routings.emplace_back(config(), RoutingPolicy::parse("top-k:" + std::to_string(n)));
    }
    std::vector<std::unique_ptr<KvCache>> kv;
    kv.push_back(cache(s_.depth, 1));
    std::vector<RouteTable> nobody(config().layers.size());
    for (size_t l = 0; l < nobody.size(); ++l) {
        nobody[l].clear(config().layers[l].experts());
        nobody[l].offsets.assign(static_cast<size_t>(s_.depth) + 2, 0);
    }
    PassOptions without;
    without.fixed_routes = nobody;
    std::array<Samples, kNumbers.size()> seconds;
    Samples none;
    for (int i = -1; i < 8 * s_.runs; ++i) {
        const double idle = step(kv, routings[0], without);
        if (i >= 0) none.add(idle);
        for (size_t n = 0; n < kNumbers.size(); ++n) {
            const double time = step(kv, routings[n]);
            if (i >= 0) seconds[n].add(time);
        }
    }
    double sx = 0, sy = 0, sxx = 0, sxy = 0, syy = 0;
    for (size_t n = 0; n < kNumbers.size(); ++n) {
        const double x = kNumbers[n], y = seconds[n].median();
        sx += x, sy += y, sxx += x * x, sxy += x * y, syy += y * y;
        report_.line(("decode, top-k:" + std::to_string(kNumbers[n])).c_str(), seconds[n],
                     "ms/token", 1e3);
    }
    const double count = kNumbers.size();
    const double xx = sxx - sx * sx / count, xy = sxy - sx * sy / count;
    const double yy = syy - sy * sy / count;
    const double slope = xy / xx, start = (sy - slope * sx) / count;
    report_.line("decode, no experts", none, "ms/token", 1e3);
    report_.line("line: start", {{start}}, "ms/token", 1e3);
    report_.line("line: one more expert in every layer", {{slope}}, "ms/token", 1e3);
    report_.line("line: explained variance", {{xy * xy / xx / yy}}, "%", 100);
    report_.line("line: start against no experts", {{start / none.median()}}, "%", 100);
}

double EngineBench::prompt_pass(KvCache& kv, RequestRouting& routing, const PassOptions& options) {
    const int depth = kv.length();
    const double seconds = team_.time_of([&] {
        for (int i = 0; i < s_.prompt; i += context_.max_rows()) {
            rows_.clear();
            const int end = std::min(s_.prompt, i + context_.max_rows());
            for (int t = i; t < end; ++t) {
                rows_.push_back({any_token(), &kv, &routing, t + 1 == s_.prompt});
            }
            context_.forward(rows_, options);
        }
        context_.logits(0, 1);
    });
    kv.truncate(depth);
    return seconds;
}

void EngineBench::uneven(int experts) {
    RequestRouting routing(config());
    const auto kv = cache(0, s_.prompt);
    std::vector<RouteTable> routes[2];  // of all layers: random experts, then always the same
    for (auto& tables : routes) tables.resize(config().layers.size());
    for (size_t l = 0; l < config().layers.size(); ++l) {
        const int all = config().layers[l].experts();
        const LayerShape shape{all, 0, 0, s_.prompt, std::min(experts, all)};
        routes[0][l] = routes[1][l] = random_routes(shape, random_);
        for (size_t a = 0; a < routes[1][l].experts.size(); ++a) {
            routes[1][l].experts[a] = static_cast<int32_t>(a) % shape.top_k;
        }
    }
    PassOptions even, hot;
    even.fixed_routes = routes[0];
    hot.fixed_routes = routes[1];
    Samples seconds[2], ratio;
    for (int run = -1; run < s_.runs; ++run) {
        const double spread = prompt_pass(*kv, routing, even);
        const double same = prompt_pass(*kv, routing, hot);
        if (run < 0) continue;
        seconds[0].add(s_.prompt / spread);
        seconds[1].add(s_.prompt / same);
        ratio.add(same / spread);
    }
    const std::string name = "prefill, top-" + std::to_string(experts);
    report_.line((name + " at random").c_str(), seconds[0], "tokens/s", 1);
    report_.line((name + ", always the same").c_str(), seconds[1], "tokens/s", 1);
    report_.line((name + ", time of the same").c_str(), ratio, "% of random", 100);
}

void EngineBench::batch(int sequences) {
    constexpr int kDepth = 128;
    RequestRouting routing(config());
    std::vector<std::unique_ptr<KvCache>> kv;
    for (int i = 0; i < sequences; ++i) kv.push_back(cache(kDepth, 1));
    DistinctExperts distinct(bytes_);
    PassOptions options;
    options.trace = &distinct;
    const double fixed =
        bytes_.with_experts(config(), 0) +
        sequences * static_cast<double>(KvCache::bytes(config(), kDepth + 1, s_.kv));
    Samples rate, share;
    double before = reader_.bytes_per_second();
    for (int i = -2; i < 8 * s_.runs; ++i) {
        const double seconds = step(kv, routing, options);
        const double bytes = fixed + distinct.take();
        const double after = reader_.bytes_per_second();
        const double read = (before + after) / 2;
        before = after;
        if (i < 0) continue;
        rate.add(sequences / seconds);
        share.add(bytes / seconds / read);
    }
    const std::string name = "decode of " + std::to_string(sequences) + " at once";
    report_.line(name.c_str(), rate, "tokens/s", 1);
    report_.line((name + ", share of reading").c_str(), share, "%", 100);
}

void run(int argc, char** argv) {
    const char* path = text_option(argc, argv, "--model", nullptr);
    if (path == nullptr) throw Error("--model", "no file given, expected a GGUF file");
    const Settings settings(argc, argv);
    MeteredExecutor team = make_executor(argc, argv);
    LoadOptions options;
    options.check_values = false;
    if (int_option(argc, argv, "--rows", 0) == 0 && settings.compute == Compute::int8) {
        options.panels = &team;
    }
    Samples loading;
    const double start = wall_clock();
    const Model model = Model::load(path, options);
    loading.add(wall_clock() - start);
    Report report("engine", argc, argv);
    report.line("loading", loading, "s", 1);
    EngineBench bench(model, team, settings, report);
    if (settings.wants("prefill")) bench.prefill("prefill", 0, settings.runs);
    if (settings.wants("decode")) bench.decode("decode", settings.depth, 10 * settings.runs);
    if (settings.wants("experts")) bench.experts();
    if (settings.wants("uneven")) {
        for (const int experts : {8, 1}) bench.uneven(experts);
    }
    if (settings.wants("batch")) {
        for (const int sequences : {1, 4, 16}) bench.batch(sequences);
    }
    if (settings.wants("long")) {
        bench.decode("long context: decode", settings.long_depth, 10 * settings.runs);
        bench.prefill("long context: prefill", settings.long_depth, std::min(settings.runs, 3));
    }
    report.line("resident at most, with the file", {{peak_resident_bytes()}}, "MB", 1e-6);
    report.line("resident now, without files", {{anonymous_bytes()}}, "MB", 1e-6);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        run(argc, argv);
    } catch (const Error& error) {
        std::fprintf(stderr, "bench_engine: %s\n", error.what());
        return 1;
    }
    return 0;
}
