// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "muster/model/trace.h"

namespace muster {

/// Takes one expert from each row of a batch of branches; the others share its weight.
class WeightSharing final : public Intervention {
  public:
    explicit WeightSharing(int layer) : layer_(layer) {}
    std::vector<int> removed;  ///< [rows of all batches], in their order

    bool touches(int l) const override { return l == layer_; }
    void after_route(int /*l*/, const RowInfo& /*rows*/, RouteTable& routes) override {
        changed_.clear(routes.num_experts);
        for (int t = 0; t < routes.tokens(); ++t, ++next_) {
            const auto experts = routes.token_experts(t);
            const auto weights = routes.token_weights(t);
            double all = 0, rest = 0;
            for (size_t i = 0; i < experts.size(); ++i) {
                all += weights[i];
                if (experts[i] != removed[next_]) rest += weights[i];
            }
            for (size_t i = 0; i < experts.size(); ++i) {
                if (experts[i] == removed[next_]) continue;
                changed_.experts.push_back(experts[i]);
                changed_.weights.push_back(rest > 0 ? static_cast<float>(weights[i] * all / rest)
                                                    : 0.0f);
            }
            changed_.offsets.push_back(changed_.activations());
        }
        std::swap(routes, changed_);
    }

  private:
    int layer_;
    size_t next_ = 0;
    RouteTable changed_;
};

}  // namespace muster
