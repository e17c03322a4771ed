// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/losses.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "muster/core/error.h"

namespace muster {
namespace {

/// P = softmax(row) in double; returns logsumexp(row).
double softmax(const float* row, std::vector<double>& p) {
    const double top = *std::max_element(row, row + p.size());
    double sum = 0;
    for (size_t e = 0; e < p.size(); ++e) sum += p[e] = std::exp(row[e] - top);
    for (double& x : p) x /= sum;
    return top + std::log(sum);
}

/// What the batch sums say about each expert.
struct BatchSums {
    std::vector<double> probability;  ///< [E] sum over the tokens of P_te
    std::vector<double> share;        ///< [E] f_e: activations / T
};

/// d (balance and importance, weighted) / d P_te, which is the same for every token t.
///   balance    N sum_e f_e Q_e, Q_e = I_e / T         ->  N f_e / T
///   importance sum_e (I_e - m)^2 / (N m^2), m = T / N  ->  2 (I_e - m) / (N m^2)
/// The mean m is constant because every P sums to 1.
std::vector<double> batch_terms(const BatchSums& sums, double tokens,
                                const RouterLossWeights& weights, RouterLosses& losses) {
    const double n = static_cast<double>(sums.share.size());
    const double mean = tokens / n;
    std::vector<double> slope(sums.share.size());
    for (size_t e = 0; e < slope.size(); ++e) {
        const double off = sums.probability[e] - mean;
        losses.balance += n * sums.share[e] * sums.probability[e] / tokens;
        losses.importance += off * off / (n * mean * mean);
        slope[e] = weights.balance * n * sums.share[e] / tokens +
                   weights.importance * 2 * off / (n * mean * mean);
    }
    return slope;
}

/// Adds one token's d total / d logits. With s the slope by P from above, L = logsumexp and H the
/// entropy of P:  softmax: P_i (s_i - sum_j P_j s_j);  z: 2 L P_i / T;  entropy:
/// -P_i (log P_i + H) / T.
void add_token_gradient(const float* row, double log_sum, const std::vector<double>& p,
                        const std::vector<double>& slope, const RouterLossWeights& weights,
                        double tokens, float* gradient) {
    double mean_slope = 0, entropy = log_sum;
    for (size_t e = 0; e < p.size(); ++e) {
        mean_slope += p[e] * slope[e];
        entropy -= p[e] * row[e];
    }
    for (size_t e = 0; e < p.size(); ++e) {
        const double by_entropy = -(row[e] - log_sum + entropy);
        gradient[e] += static_cast<float>(
            p[e] * (slope[e] - mean_slope +
                    (weights.z * 2 * log_sum + weights.entropy * by_entropy) / tokens));
    }
}

}  // namespace

RouterLosses router_losses(MatrixView<const float> logits, const RouteTable& routes,
                           const RouterLossWeights& weights, MatrixView<float> gradient) {
    RouterLosses losses;
    const int64_t tokens = logits.rows;
    const size_t experts = static_cast<size_t>(logits.cols);
    MUSTER_ASSERT(routes.tokens() == tokens && routes.num_experts == logits.cols);
    MUSTER_ASSERT(gradient.data == nullptr ||
                  (gradient.rows == tokens && gradient.cols == logits.cols));
    if (tokens == 0) return losses;
    const double count = static_cast<double>(tokens);

    BatchSums sums{std::vector<double>(experts), std::vector<double>(experts)};
    for (const int32_t e : routes.experts) sums.share[e] += 1 / count;
    std::vector<double> p(experts);
    for (int64_t t = 0; t < tokens; ++t) {
        const float* row = logits.row(t);
        const double log_sum = softmax(row, p);
        double entropy = log_sum;
        for (size_t e = 0; e < experts; ++e) {
            sums.probability[e] += p[e];
            entropy -= p[e] * row[e];
        }
        losses.z += log_sum * log_sum / count;
        losses.entropy += entropy / count;
    }
    const std::vector<double> slope = batch_terms(sums, count, weights, losses);
    losses.total = weights.balance * losses.balance + weights.importance * losses.importance +
                   weights.z * losses.z + weights.entropy * losses.entropy;
    if (gradient.data == nullptr) return losses;
    for (int64_t t = 0; t < tokens; ++t) {
        const double log_sum = softmax(logits.row(t), p);
        add_token_gradient(logits.row(t), log_sum, p, slope, weights, count, gradient.row(t));
    }
    return losses;
}

}  // namespace muster
