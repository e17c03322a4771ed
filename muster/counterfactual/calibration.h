// SPDX-License-Identifier: Apache-2.0
// Counterfactual calibration (Awakening Dormant Experts, arXiv 2604.14246): which layers and
// experts a model's hard tokens depend on, found by perturbing layers and by taking experts away,
// and the plan that moves activations there at a constant total.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "muster/core/executor.h"
#include "muster/core/progress.h"
#include "muster/kernels/matmul.h"
#include "muster/model/model.h"
#include "muster/routing/activation_plan.h"

namespace muster {

/// What happens in the place of an expert that is taken away: the next one by rank comes in, or the
/// others share its weight.
enum class Ablation : uint8_t { next, share };

/// Whose tokens tell an expert's impact: all hard ones that use it (the paper's), or those where it
/// is the last that is selected or the first that is not: there it is compared with the other one,
/// which is what a plan changes.
enum class ImpactRule : uint8_t { users, boundary };

/// What shares out the budgets: the layers' contrasts, or what other numbers of experts in a layer
/// do to the loss of all tokens (as LExI, arXiv 2509.02753, but at a constant total).
enum class BudgetRule : uint8_t { contrast, loss };

struct CalibrationOptions {
    int experts_per_token = 0;      ///< k of the baseline top-k:k; 0: the model's own mean, rounded
    int window = 0;                 ///< tokens read together; 0: the model's context, at most 512
    double hard = 0.8, easy = 0.2;  ///< quantiles of the loss: hard above, easy below
    int lead = 16;                  ///< rows at a window's start in no stratum: they lack context
    double epsilon = 1e-6;          ///< nats, beside the easy tokens' sensitivity in the contrast
    double noise = 0.05;            ///< of a layer's output, relative
    int draws = 8;
    Ablation ablation = Ablation::next;
    ImpactRule impacts = ImpactRule::users;  ///< boundary: with Ablation::next alone
    BudgetRule budgets = BudgetRule::contrast;
    /// Most experts that a layer's budget departs from k; 0: any number, by loss 2.
    int max_shift = 0;
    double lambda = 0.1;
    std::vector<int> layers;   ///< measured; empty: all. The others keep k and have no evidence
    int clusters = 0;          ///< of contexts; 0: none
    double seconds = 0;        ///< stop measuring then and make the plan of what there is; 0: never
    double save_seconds = 20;  ///< between two copies of the state
    double confidence = 0.95;
    uint64_t seed = 1;
    Compute compute = Compute::f32;
    DType kv = DType::f32;
    /// Where measurements are kept from time to time and found again; empty: nowhere. Another
    /// model's, text's or other settings' file is refused; `seconds`, `lambda`,
    /// `epsilon`, `max_shift` (by contrast) and `clusters` may differ.
    std::filesystem::path state;
    Progress progress;  ///< in row-layers; returning false saves the state and ends the work
};

/// What calibration will compute.
struct CalibrationCost {
    int64_t windows = 0, tokens = 0;  ///< tokens with a loss
    int64_t passes = 0;               ///< of every window, some from a later layer on
    int64_t ablations = 0;            ///< positions computed again from a layer on, about
    int64_t row_layers = 0;           ///< a position through one layer, of all of it

    /// What is computed on the same windows beside.
    CalibrationCost& operator+=(const CalibrationCost& other) noexcept {
        passes += other.passes;
        ablations += other.ablations;
        row_layers += other.row_layers;
        return *this;
    }
};

/// Cuts texts into windows of at least 32 and at most options.window tokens. They
/// come in an order that mixes the texts, a function of options.seed, up to about `most` tokens (0:
/// all). Throws Error when there is none.
std::vector<std::vector<int32_t>> calibration_windows(const Model& model,
                                                      std::span<const std::string> texts,
                                                      const CalibrationOptions& options,
                                                      int64_t most);

/// The baseline's k. Throws Error when it cannot work.
int baseline_experts(const ModelConfig& config, const CalibrationOptions& options);

/// Throws Error when an option makes no sense.
CalibrationCost calibration_cost(const Model& model, std::span<const std::vector<int32_t>> windows,
                                 const CalibrationOptions& options);

/// Row-layers a second, measured on the first window; the whole of `row_layers` may take as long as
/// that says or, where batches of ablations are small, somewhat longer.
double calibration_rate(const Model& model, Executor& executor,
                        std::span<const std::vector<int32_t>> windows,
                        const CalibrationOptions& options);

struct CalibrationResult {
    ActivationPlan plan;
    int64_t windows = 0;   ///< measured
    bool stopped = false;  ///< by `progress`: there is no plan, but a state where it was wanted
    double hard_loss = 0;  ///< the losses at the quantiles
    double easy_loss = 0;
    /// Correlation of the measurements on odd and even windows: how far they are reliable. NaN
    /// where too few were measured. Spearman's rho over layers and Pearson's r over experts.
    double contrast_reliability = 0, impact_reliability = 0;
    /// By loss: nats per token that budgets chosen on the odd windows change on the even ones, and
    /// the other way round; NaN by contrast.
    double budget_change = 0;
};

CalibrationResult calibrate(const Model& model, Executor& executor,
                            std::span<const std::vector<int32_t>> windows,
                            const CalibrationOptions& options);

}  // namespace muster
