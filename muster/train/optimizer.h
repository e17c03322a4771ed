// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

namespace muster::train {

/// AdamW (Loshchilov, Hutter, arXiv 1711.05101) with global norm clipping, fused into one pass over
/// each f32 CPU parameter: m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= lr (m^ / (sqrt(v^)
/// + eps) + decay * w). Matrices decay, vectors do not.
class AdamW {
  public:
    struct Settings {
        double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1;
    };
    struct Parameter {
        std::string name;
        at::Tensor value;  ///< contiguous f32, with grad after backward
        at::Tensor m, v;
        bool decay = true;
    };

    AdamW(std::vector<std::pair<std::string, at::Tensor>> parameters, const Settings& settings);

    /// The norm of the whole gradient.
    double gradient_norm() const;
    /// One step with gradients scaled by `scale` (clipping); parameters without gradient stay.
    /// Clears the gradients.
    void step(double lr, double scale);

    std::vector<Parameter>& parameters() { return parameters_; }
    const std::vector<Parameter>& parameters() const { return parameters_; }
    int64_t steps() const { return steps_; }
    void set_steps(int64_t steps) { steps_ = steps; }

  private:
    std::vector<Parameter> parameters_;
    Settings settings_;
    int64_t steps_ = 0;
};

}  // namespace muster::train
