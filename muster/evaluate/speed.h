// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "muster/core/executor.h"
#include "muster/core/progress.h"
#include "muster/kernels/matmul.h"
#include "muster/model/model.h"
#include "muster/routing/policy.h"

namespace muster {

struct SpeedOptions {
    std::vector<RoutingPolicy> policies{{}};
    int prompt_tokens = 512;  ///< length of the prefill
    int decode_tokens = 64;
    int depth = 0;  ///< tokens in the cache before either
    int repeats = 5;
    int max_rows = 256;
    Compute compute = Compute::f32;
    DType kv = DType::f32;  ///< of keys and values
    uint64_t seed = 1;      ///< tokens are drawn at random
    Progress progress;      ///< returning false throws Error
};

/// Rates of one run after another.
struct Rate {
    double median = 0, low = 0, high = 0;  ///< tokens per second; lowest and highest run
};

struct SpeedResult {
    std::string policy;
    Rate prefill, decode;
    double experts = 0;  ///< routed experts per decoded token, mean over MoE layers
    double bytes_per_token =
        0;  ///< weights read per decoded token: fixed parts, selected experts, head
    double bytes_per_second = 0;  ///< that times the median decode rate
};

/// The linear model of a decoded token's cost, seconds = fixed + each * experts, fitted to the
/// policies of a report by least squares: does speed follow the activations?
struct DecodeCost {
    double fixed_seconds = 0;
    double expert_seconds = 0;   ///< of one expert in every MoE layer
    double worst_deviation = 0;  ///< largest |measured - model| / measured of a policy
};

struct SpeedReport {
    int threads = 0;
    std::string isa;
    double memory_bytes_per_second = 0;  ///< reading, measured in the same run with all workers
    std::vector<SpeedResult> results;
};

/// Measures prefill and decode. The share of the memory roofline a decode reaches is
/// bytes_per_second / memory_bytes_per_second. Throws Error when a number makes no sense.
SpeedReport measure_speed(const Model& model, Executor& executor, const SpeedOptions& options);

/// Nothing unless policies with different numbers of experts were measured.
std::optional<DecodeCost> decode_cost(const std::vector<SpeedResult>& results);

std::string to_json(const SpeedReport& report);

}  // namespace muster
