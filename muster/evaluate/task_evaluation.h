// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "muster/core/executor.h"
#include "muster/core/progress.h"
#include "muster/core/stats.h"
#include "muster/evaluate/tasks.h"
#include "muster/kernels/matmul.h"
#include "muster/model/model.h"
#include "muster/routing/policy.h"

namespace muster {

/// One item under one policy.
struct TaskRecord {
    struct ScoredChoice {
        std::string text;
        bool right = false;
        double log_probability = 0;  ///< in nats
        int tokens = 0;
        bool greedy = false;  ///< each token is the likeliest at its place
    };
    std::string policy;
    std::string item;   ///< its id
    std::string group;  ///< or empty
    std::vector<std::pair<std::string, double>> metrics;
    std::vector<ScoredChoice> choices;  ///< of choices and cloze
    std::string answer;                 ///< of answers: as written, without white space around it
    std::vector<double> experts;        ///< [L] routed experts per token (dense layers 0)
    int64_t tokens = 0;                 ///< scored or written
    int dropped = 0;                    ///< tokens of the context that had no room
    std::string speed_note;             ///< of answers: why a `speed:` was not held, or empty
};

/// A record as one line of JSON, without the line feed.
std::string to_json(const TaskRecord& record);

struct TaskOptions {
    std::vector<RoutingPolicy> policies{{}};  ///< the first is the baseline of the differences
    int window = 0;                           ///< tokens; 0: the model's context length
    int answer_tokens = 32;                   ///< most tokens of a written answer
    int sequences = 4;                        ///< answers written at once; each has a cache
    int max_rows = 256;
    Compute compute = Compute::f32;
    DType kv = DType::f32;  ///< of keys and values
    double confidence = 0.95;
    Progress progress;                                 ///< in items over all policies
    std::function<void(const TaskRecord&)> on_record;  ///< policy by policy, in the items' order
};

/// A metric over items.
struct MetricResult {
    std::string name;
    Interval value;
    Interval difference;  ///< minus the first policy's, paired item by item; zero for the first
};

struct TaskGroup {
    std::string name;
    int64_t items = 0;
    std::vector<MetricResult> metrics;
};

struct TaskPolicyResult {
    std::string policy;
    std::vector<MetricResult> metrics;
    std::vector<TaskGroup> groups;  ///< by name; empty without labels
    std::vector<double> experts;    ///< [L] routed experts per token scored or written
    double mean_experts = 0;        ///< over MoE layers
    double activated = 0;           ///< activated parameters per token (DESIGN's measure)
    int64_t tokens = 0;             ///< scored or written
    double seconds = 0;
    int64_t speeds_missed = 0;  ///< written answers at which a `speed:` was not held
    std::string speed_note;     ///< what became of it at the last of them
};

struct TaskResult {
    std::string task;
    std::string metric;  ///< the usual one
    int64_t items = 0;
    int64_t cut = 0;  ///< items whose context had no room
    int threads = 0;
    std::vector<TaskPolicyResult> policies;
};

/// Evaluates items under every policy. Metrics:
/// choices: `acc`, the likeliest choice is right; `acc_norm`, `acc_bytes` and `acc_tokens`, the
/// same by log-probability per character, per byte and per token of the choice; `mc2`, the share
/// that the right choices have of the choices' summed probabilities (Lin et al. 2021). Ties go to
/// the first choice. cloze: `acc`, greedy decoding writes the target; `nats`, minus the target's
/// log-probability, whose exp is the perplexity of targets. answers: `em` and `f1` (answers.h) of
/// what is written greedily until a stop string of the task.
/// Throws Error when an item or a policy cannot work; policies that need whole batches cannot.
TaskResult evaluate_task(const Model& model, const Task& task, const std::vector<TaskItem>& items,
                         Executor& executor, const TaskOptions& options);

std::string to_json(const TaskResult& result);

}  // namespace muster
