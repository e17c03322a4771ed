// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "muster/kernels/matmul.h"
#include "muster/model/config.h"
#include "muster/routing/losses.h"

namespace muster::train {

enum class Schedule { cosine, wsd };

/// Everything `muster train` can be told; the TOML tables of a config file have the same names and
/// defaults.
struct TrainConfig {
    ModelConfig model;         ///< [model] and [routing]; vocab is [data] vocabulary_size
    RouterLossWeights losses;  ///< [loss]

    struct Data {
        std::vector<std::filesystem::path>
            train;  ///< .jsonl ({"domain", "text"} a line) or plain text files
        std::vector<std::filesystem::path>
            test;                         ///< empty: a share of the training documents is held out
        double held_out = 0.02;           ///< that share, when `test` is empty
        std::filesystem::path tokenizer;  ///< an existing tokenizer.model; empty: train one
        int vocabulary_size = 4096;
        int64_t vocabulary_sample = 16 << 20;  ///< bytes of text the vocabulary is trained on
    } data;

    struct Training {
        int64_t tokens = 10'000'000;  ///< how long to train
        int64_t batch_tokens = 8192;  ///< per optimiser step
        int accumulate = 1;           ///< micro-batches per step
        double lr = 2e-3;
        double min_lr = 2e-4;
        int64_t warmup = 100;  ///< steps
        Schedule schedule = Schedule::cosine;
        double decay_share = 0.2;  ///< wsd: last share of the steps, over which lr falls
        double weight_decay = 0.1;
        double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
        double clip = 1.0;  ///< norm of the whole gradient; 0: none
        Compute dtype = Compute::bf16;
        uint64_t seed = 1;
        int threads = 0;  ///< 0: all cores
    } training;

    struct Output {
        std::filesystem::path directory = "runs/default";
        int64_t log_every = 10;          ///< steps
        int64_t eval_every = 500;        ///< steps; 0: only at the end
        int64_t eval_tokens = 50'000;    ///< per domain
        int64_t checkpoint_every = 500;  ///< steps; 0: only at the end
        int keep = 2;                    ///< checkpoints kept
    } output;

    int64_t steps() const {
        return (training.tokens + training.batch_tokens - 1) / training.batch_tokens;
    }
    int64_t sequences_per_micro_batch() const {
        return training.batch_tokens / training.accumulate / model.context;
    }
    /// Throws Error naming the first setting that cannot work, before anything is read or written.
    void check() const;
};

/// Reads a TOML config. Relative paths are relative to the current directory. Throws Error naming
/// the file, and the line or key that is wrong; unknown keys are errors.
TrainConfig read_config(const std::filesystem::path& path);
TrainConfig parse_config(std::string_view text, std::string_view name);

/// The whole config as TOML; parse_config(to_toml(c)) gives the same settings.
std::string to_toml(const TrainConfig& config);

/// The learning rate of optimiser step `step` (0-based): linear warm-up, then cosine to min_lr
/// (arXiv 1608.03983) or warmup-stable-decay (arXiv 2404.06395).
double learning_rate(const TrainConfig& config, int64_t step);

}  // namespace muster::train
