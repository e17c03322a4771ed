// SPDX-License-Identifier: Apache-2.0
#include "muster/train/trainer.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/random.h"
#include "muster/core/thread_team.h"

namespace muster::train {
namespace fs = std::filesystem;
namespace {

double seconds_now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

/// Throws Error where weights, gradients and both moments alone exceed this machine's memory.
void check_memory(const ModelConfig& model) {
    const double needed = 16.0 * static_cast<double>(count_parameters(model).total);
    const double there = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) *
                         static_cast<double>(::sysconf(_SC_PAGESIZE));
    if (there > 0 && needed > there)
        throw Error("model", fmt::format("training it takes at least {:.0f} GB of memory, and this "
                                         "machine has {:.0f}; expected a smaller model",
                                         needed / 1e9, there / 1e9));
}

/// Throws Error where a run of the `stored` config cannot go on with the new one. Lengths, rates,
/// losses and the policy may change; they hold from there on.
void check_resumable(const TrainConfig& config, const std::string& stored, const fs::path& where) {
    const TrainConfig before = parse_config(stored, where.string());
    const auto model = [](ModelConfig c) {
        c.name.clear();
        c.policy = {};
        return nlohmann::json::parse(to_json(c));
    };
    const nlohmann::json then = model(before.model), now = model(config.model);
    const nlohmann::json changes = nlohmann::json::diff(then, now);
    if (!changes.empty()) {
        throw Error(where.string(),
                    fmt::format("the run was started with another [model]: {} differs; expected "
                                "the same, or another output.directory",
                                changes[0].at("path").get<std::string>().substr(1)));
    }
    if (before.training.seed != config.training.seed) {
        throw Error(where.string(), fmt::format("the run was started with training.seed = {}, "
                                                "expected the same, or another output.directory",
                                                before.training.seed));
    }
}

}  // namespace

Trainer::Trainer(TrainConfig config, bool resume, TrainCallbacks callbacks)
    : config_(std::move(config)), callbacks_(std::move(callbacks)) {
    config_.check();
    check_memory(config_.model);
    const fs::path& directory = config_.output.directory;
    const auto checkpoint = latest_checkpoint(directory);
    if (checkpoint && !resume) {
        throw Error(
            directory.string(),
            "already holds checkpoints; go on with --resume or choose another output.directory");
    }
    if (!checkpoint && resume)
        throw Error(directory.string(), "holds no checkpoint to resume from");
    std::error_code error;
    fs::create_directories(directory, error);
    if (error) throw Error(directory.string(), fmt::format("cannot create: {}", error.message()));

    at::set_num_threads(config_.training.threads > 0 ? config_.training.threads : available_cpus());
    at::manual_seed(config_.training.seed);
    data_ = prepare_data(config_, resume, callbacks_.progress);
    sampler_ = std::make_unique<WindowSampler>(data_.train->tokens(), config_.model.context,
                                               config_.training.seed);
    LanguageModelOptions options;
    options.config = config_.model;
    options.losses = config_.losses;
    options.compute = config_.training.dtype;
    options.seed = config_.training.seed;
    model_ = LanguageModel(options);
    const auto& t = config_.training;
    std::vector<std::pair<std::string, at::Tensor>> parameters;
    for (const auto& item : model_->named_parameters())
        parameters.emplace_back(item.key(), item.value());
    optimizer_ = std::make_unique<AdamW>(std::move(parameters),
                                         AdamW::Settings{t.beta1, t.beta2, t.eps, t.weight_decay});
    routing_.emplace(config_.model);
    if (checkpoint) {
        torch::NoGradGuard no_grad;
        load_checkpoint(*checkpoint, *model_, *optimizer_, state_);
        check_resumable(config_, state_.config, *checkpoint / "trainer.json");
        last_checkpoint_ = *checkpoint;
        saved_step_ = state_.step;
        if (!state_.controllers.empty()) routing_->restore_controllers(state_.controllers);
    }
    state_.config = to_toml(config_);
    write_file(directory / "config.toml", state_.config);
    metrics_ = std::make_unique<Metrics>(directory, checkpoint ? state_.step : -1);
}

void Trainer::for_moe_layers(const std::function<void(MoEImpl&)>& f) const {
    for (Block block : model_->blocks()) {
        if (block->moe->router.defined()) f(*block->moe);
    }
}

double Trainer::mean_over_moe_layers(const std::function<double(MoEImpl&)>& value) const {
    double sum = 0;
    int layers = 0;
    for_moe_layers([&](MoEImpl& moe) {
        sum += value(moe);
        ++layers;
    });
    return sum / std::max(1, layers);
}

std::vector<double> Trainer::layer_experts() const {
    std::vector<double> means;
    for (Block block : model_->blocks())
        means.push_back(block->moe->statistics().experts_per_token());
    return means;
}

double Trainer::mean_experts_per_token() const {
    return mean_over_moe_layers([](MoEImpl& moe) { return moe.statistics().experts_per_token(); });
}

void Trainer::control_means() {
    if (!routing_->controlled()) return;
    std::vector<double> experts;
    for (Block block : model_->blocks()) {
        const RouteTable& routes = block->moe->routes();
        experts.push_back(static_cast<double>(routes.activations()) / std::max(1, routes.tokens()));
    }
    routing_->observe_batch(experts);
    state_.controllers = routing_->controller_state();
}

at::Tensor Trainer::next_batch() {
    const int64_t sequences = config_.sequences_per_micro_batch(),
                  length = config_.model.context + 1;
    at::Tensor ids = at::empty({sequences, length}, at::kLong);
    int64_t* out = ids.data_ptr<int64_t>();
    for (int64_t s = 0; s < sequences; ++s) {
        for (const uint16_t token : sampler_->window(state_.window++)) *out++ = token;
    }
    return ids;
}

Trainer::Losses Trainer::train_step() {
    const int parts = config_.training.accumulate;
    Losses sum;
    for (int part = 0; part < parts; ++part) {
        for_moe_layers([&](MoEImpl& moe) {
            moe.resolved().p = routing_->layer(moe.options().layer).p;
            moe.set_batch(state_.step * parts + part);
        });
        const at::Tensor ids = next_batch();
        const int64_t length = config_.model.context;
        const at::Tensor logits = model_->forward(ids.narrow(1, 0, length).contiguous());
        const at::Tensor loss =
            at::cross_entropy_loss(logits, ids.narrow(1, 1, length).reshape({-1}));
        const at::Tensor auxiliary = model_->auxiliary_loss();
        sum.loss += loss.item<double>() / parts;
        sum.auxiliary += auxiliary.item<double>() / parts;
        ((loss + auxiliary) / static_cast<double>(parts)).backward();
        control_means();
    }
    last_norm_ = optimizer_->gradient_norm();
    check_finite(sum.loss + sum.auxiliary, last_norm_);
    const double clip = config_.training.clip;
    const double scale = clip > 0 && last_norm_ > clip ? clip / last_norm_ : 1.0;
    optimizer_->step(learning_rate(config_, state_.step), scale);
    ++state_.step;
    state_.tokens += config_.training.batch_tokens;
    return sum;
}

void Trainer::check_finite(double loss, double norm) const {
    if (std::isfinite(loss) && std::isfinite(norm)) return;
    const std::string kept =
        last_checkpoint_.empty()
            ? "no checkpoint was written yet"
            : fmt::format("the last good checkpoint is {}", last_checkpoint_.string());
    throw Error("train", fmt::format("step {}: the loss is {} and the gradient's norm {}, expected "
                                     "finite numbers; {}; try a lower "
                                     "training.lr or a longer training.warmup",
                                     state_.step + 1, loss, norm, kept));
}

TrainReport Trainer::make_report(const Losses& mean, double tokens_per_second) const {
    TrainReport r;
    r.step = state_.step;
    r.steps = config_.steps();
    r.loss = mean.loss;
    r.auxiliary = mean.auxiliary;
    r.gradient_norm = last_norm_;
    r.lr = learning_rate(config_, state_.step - 1);
    r.tokens_per_second = tokens_per_second;
    r.seconds_left =
        static_cast<double>((r.steps - r.step) * config_.training.batch_tokens) / tokens_per_second;
    for_moe_layers(
        [&](MoEImpl& moe) { r.layer_experts.push_back(moe.statistics().experts_per_token()); });
    r.experts_per_token = mean_experts_per_token();
    r.max_over_mean =
        mean_over_moe_layers([](MoEImpl& moe) { return moe.statistics().max_over_mean(); });
    return r;
}

void Trainer::publish(const TrainReport& r) {
    std::map<std::string, double> values{{"loss", r.loss},
                                         {"auxiliary", r.auxiliary},
                                         {"gradient_norm", r.gradient_norm},
                                         {"lr", r.lr},
                                         {"tokens_per_second", r.tokens_per_second},
                                         {"experts_per_token", r.experts_per_token},
                                         {"max_over_mean", r.max_over_mean},
                                         {"tokens", static_cast<double>(state_.tokens)}};
    for (size_t l = 0; l < r.layer_experts.size(); ++l)
        values[fmt::format("experts_layer_{}", l)] = r.layer_experts[l];
    metrics_->write("train", r.step, values);
    if (callbacks_.report) callbacks_.report(r);
}

void Trainer::publish(const EvalResult& result) {
    std::map<std::string, double> values{{"loss", result.loss},
                                         {"perplexity", std::exp(result.loss)},
                                         {"experts_per_token", result.experts_per_token}};
    for (const auto& [domain, loss] : result.domains) values["loss_" + domain] = loss;
    metrics_->write("eval", state_.step, values);
    if (callbacks_.evaluated) callbacks_.evaluated(state_.step, result);
}

void Trainer::save() {
    if (saved_step_ == state_.step) return;
    TrainerState state = state_;
    // Before the first evaluation, those of the steps since the last report.
    if (state.mean_experts.empty()) state.mean_experts = layer_experts();
    last_checkpoint_ =
        save_checkpoint(config_.output.directory, *model_, *optimizer_, state,
                        config_.output.directory / "tokenizer.model", config_.output.keep);
    saved_step_ = state_.step;
    if (callbacks_.saved) callbacks_.saved(last_checkpoint_);
}

TrainEnd Trainer::run(const std::atomic<bool>& stop) {
    const int64_t steps = config_.steps();
    const auto due = [&](int64_t every) { return every > 0 && state_.step % every == 0; };
    const double spent_before = state_.seconds, begin = seconds_now();
    Losses sum;
    double since = begin;
    int64_t counted = 0;
    model_->train();
    while (state_.step < steps && !stop) {
        if (counted == 0) for_moe_layers([](MoEImpl& moe) { moe.reset_statistics(); });
        const Losses losses = train_step();
        sum.loss += losses.loss;
        sum.auxiliary += losses.auxiliary;
        ++counted;
        state_.seconds = spent_before + seconds_now() - begin;
        if (due(config_.output.log_every) || state_.step == steps) {
            const auto n = static_cast<double>(counted);
            const double now = seconds_now();
            publish(make_report(
                {sum.loss / n, sum.auxiliary / n},
                n * static_cast<double>(config_.training.batch_tokens) / (now - since)));
            sum = {};
            counted = 0;
            since = now;
        }
        if (due(config_.output.eval_every) && state_.step < steps) {
            const double before = seconds_now();
            publish(evaluate());
            since += seconds_now() - before;
        }
        if (due(config_.output.checkpoint_every) && state_.step < steps) save();
    }
    if (state_.step >= steps && state_.step != saved_step_) publish(evaluate());
    save();
    return state_.step >= steps ? TrainEnd::finished : TrainEnd::interrupted;
}

std::map<std::string, std::vector<int64_t>> Trainer::held_out_streams() const {
    const int64_t tokens = config_.output.eval_tokens;
    std::map<std::string, std::vector<int64_t>> streams;
    for (int i = 0; i < data_.test->documents(); ++i) {
        std::vector<int64_t>& stream =
            streams[data_.test->domains()[static_cast<size_t>(data_.test->domain_of(i))]];
        if (static_cast<int64_t>(stream.size()) > tokens) continue;
        const auto document = data_.test->document(i);
        stream.insert(stream.end(), document.begin(), document.end());
    }
    for (auto& [domain, stream] : streams) {
        stream.resize(std::min<size_t>(stream.size(), static_cast<size_t>(tokens) + 1));
    }
    return streams;
}

double Trainer::summed_loss(std::span<const int64_t> stream) {
    const int64_t length = config_.model.context;
    const int64_t rows = std::max<int64_t>(1, config_.sequences_per_micro_batch());
    const int64_t predicted = static_cast<int64_t>(stream.size()) - 1;
    double sum = 0;
    for (int64_t at = 0; at < predicted;) {
        const int64_t sequences = std::min(rows, (predicted - at) / length);
        // The rest is one short sequence.
        const int64_t n = sequences > 0 ? sequences * length : predicted - at;
        const at::Tensor ids = at::tensor(
            at::ArrayRef<int64_t>(stream.data() + at, static_cast<size_t>(n + 1)), at::kLong);
        const at::Tensor logits =
            model_->forward(ids.narrow(0, 0, n).view({std::max<int64_t>(1, sequences), -1}));
        sum += at::cross_entropy_loss(logits, ids.narrow(0, 1, n), {}, at::Reduction::Sum)
                   .item<double>();
        at += n;
    }
    return sum;
}

EvalResult Trainer::evaluate() {
    torch::NoGradGuard no_grad;
    // Statistics of training steps are kept aside: evaluation routes other text.
    std::vector<LoadStatistics> kept;
    for_moe_layers([&](MoEImpl& moe) { kept.push_back(moe.statistics()), moe.reset_statistics(); });
    EvalResult result;
    for (const auto& [domain, stream] : held_out_streams()) {
        const double sum = summed_loss(stream);
        const int64_t tokens = static_cast<int64_t>(stream.size()) - 1;
        result.domains[domain] = sum / static_cast<double>(tokens);
        result.loss += sum;
        result.tokens += tokens;
    }
    result.loss /= static_cast<double>(result.tokens);
    result.experts_per_token = mean_experts_per_token();
    state_.mean_experts = layer_experts();
    size_t layer = 0;
    for_moe_layers([&](MoEImpl& moe) { moe.restore_statistics(std::move(kept[layer++])); });
    return result;
}

}  // namespace muster::train
