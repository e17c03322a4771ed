// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "muster/core/tensor_view.h"
#include "muster/routing/route_table.h"

namespace muster {

/// Coefficients of the auxiliary losses over one layer and batch; 0 leaves a loss out. All are
/// means over the tokens. N experts, T tokens, P = softmax(logits).
struct RouterLossWeights {
    float balance = 0;     ///< Switch (arXiv 2101.03961): N * sum_e f_e Q_e; f_e activations of
                           ///< e / T (they sum to k for top-k), Q_e mean of P_e; f is not
                           ///< differentiated
    float importance = 0;  ///< Shazeer 2017: squared coefficient of variation of sum_t P_te
    float z = 0;           ///< ST-MoE (arXiv 2202.08906): mean logsumexp(logits)^2
    float entropy = 0;     ///< dynamic routing (arXiv 2403.07652): mean entropy of P, in nats
};

struct RouterLosses {
    double balance = 0, importance = 0, z = 0, entropy = 0;  ///< without coefficients
    double total = 0;                                        ///< weighted sum
};

/// Values, and, when `gradient` [T, E] is given, adds d total / d logits to it.
/// logits: [T, E], finite (route() has checked them), the table's shape (asserted). T = 0 gives
/// zeros.
RouterLosses router_losses(MatrixView<const float> logits, const RouteTable& routes,
                           const RouterLossWeights& weights, MatrixView<float> gradient = {});

}  // namespace muster
