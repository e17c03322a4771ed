// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "muster/core/progress.h"
#include "muster/model/request_routing.h"
#include "muster/train/checkpoint.h"
#include "muster/train/config.h"
#include "muster/train/language_model.h"
#include "muster/train/metrics.h"
#include "muster/train/optimizer.h"
#include "muster/train/prepared_data.h"

namespace muster::train {

/// What one report of the training loop says.
struct TrainReport {
    int64_t step = 0, steps = 0;
    double loss = 0;  ///< mean cross-entropy per token, nats, over the steps since the last report
    double auxiliary = 0;  ///< weighted auxiliary losses
    double gradient_norm = 0, lr = 0;
    double tokens_per_second = 0;
    double experts_per_token = 0;  ///< mean over the MoE layers
    double max_over_mean = 0;      ///< load balance, mean over the MoE layers
    double seconds_left = 0;
    std::vector<double> layer_experts;  ///< [MoE layers]
};

struct EvalResult {
    double loss = 0;  ///< over all domains' tokens, nats
    int64_t tokens = 0;
    std::map<std::string, double> domains;  ///< loss by domain
    double experts_per_token = 0;
};

struct TrainCallbacks {
    std::function<void(const TrainReport&)> report;
    std::function<void(int64_t step, const EvalResult&)> evaluated;
    std::function<void(const std::filesystem::path&)> saved;
    Progress progress;  ///< of preparation: vocabulary, tokenising
};

enum class TrainEnd { finished, interrupted };

/// Trains a language model as a config says. Prepares the run's directory on construction
/// (config.toml and prepare_data's files), resumes from the newest checkpoint when `resume`, else
/// refuses a directory that holds one. Throws Error; a loss that is not finite is an Error too, and
/// leaves the last checkpoint as it was. One instance, one thread.
class Trainer {
  public:
    Trainer(TrainConfig config, bool resume, TrainCallbacks callbacks);

    /// Runs to the end, or until `stop` is set; saves a checkpoint in both cases.
    TrainEnd run(const std::atomic<bool>& stop);

    /// Loss over the held-out documents, at most output.eval_tokens per domain.
    EvalResult evaluate();

    LanguageModel& model() { return model_; }
    const TrainerState& state() const { return state_; }
    std::filesystem::path checkpoint() const { return last_checkpoint_; }

  private:
    struct Losses {
        double loss = 0, auxiliary = 0;
    };
    Losses train_step();
    void check_finite(double loss, double norm) const;
    at::Tensor next_batch();
    void control_means();
    void for_moe_layers(const std::function<void(MoEImpl&)>& f) const;
    double mean_over_moe_layers(const std::function<double(MoEImpl&)>& value) const;
    double mean_experts_per_token() const;
    /// [layers] of the statistics as they stand.
    std::vector<double> layer_experts() const;
    /// By domain, at most output.eval_tokens + 1 token ids.
    std::map<std::string, std::vector<int64_t>> held_out_streams() const;
    /// Of all tokens of a stream but the first, in nats.
    double summed_loss(std::span<const int64_t> stream);
    TrainReport make_report(const Losses& mean, double tokens_per_second) const;
    void publish(const TrainReport& report);
    void publish(const EvalResult& result);
    /// Nothing where the last checkpoint is of this step.
    void save();

    TrainConfig config_;
    TrainCallbacks callbacks_;
    PreparedData data_;
    std::unique_ptr<WindowSampler> sampler_;
    LanguageModel model_{nullptr};
    std::unique_ptr<AdamW> optimizer_;
    std::unique_ptr<Metrics> metrics_;
    std::optional<RequestRouting> routing_;  ///< the controllers of `mean:` policies
    TrainerState state_;
    std::filesystem::path last_checkpoint_;
    double last_norm_ = 0;
    int64_t saved_step_ = -1;  ///< of last_checkpoint_
};

}  // namespace muster::train
