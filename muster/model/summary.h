// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "muster/model/model.h"

namespace muster {

/// What `muster inspect` shows of a model.
struct ModelSummary {
    struct Tensor {
        std::string name;
        DType dtype = DType::f32;
        std::vector<int64_t> shape;
        int64_t bytes = 0;
    };
    ModelConfig config;
    ParameterCounts parameters;
    std::vector<Tensor> tensors;
    int64_t weight_bytes = 0;    ///< of all tensors
    int64_t expert_bytes = 0;    ///< of routed experts
    int64_t kv_bytes = 0;        ///< of one sequence of config.context tokens
    std::vector<double> routed;  ///< [L] experts per token under the default policy: exact for
                                 ///< top-k, measured by the trainer otherwise, -1 when unknown
    double activated = 0;        ///< activated parameters per token at `routed`; -1 when unknown
    std::string vocabulary;      ///< one phrase
};

ModelSummary summarize(const Model& model);
std::string to_json(const ModelSummary& summary);

}  // namespace muster
