// SPDX-License-Identifier: Apache-2.0
#include "muster/model/names.h"

#include <array>
#include <string>
#include <utility>

#include "muster/core/error.h"

namespace muster {
namespace {

template <typename T, size_t N>
using Words = std::array<std::pair<T, std::string_view>, N>;

constexpr Words<Score, 5> kScores{{{Score::softmax, "softmax"},
                                   {Score::sigmoid, "sigmoid"},
                                   {Score::sqrt_softplus, "sqrt-softplus"},
                                   {Score::relu, "relu"},
                                   {Score::cosine, "cosine"}}};
constexpr Words<Selection, 8> kSelections{{{Selection::top_k, "top-k"},
                                           {Selection::top_p, "top-p"},
                                           {Selection::relative, "relative"},
                                           {Selection::threshold, "threshold"},
                                           {Selection::expert_choice, "expert-choice"},
                                           {Selection::hash, "hash"},
                                           {Selection::random, "random"},
                                           {Selection::mean, "mean"}}};
constexpr Words<Weighting, 4> kWeightings{{{Weighting::raw, "raw"},
                                           {Weighting::renorm, "renorm"},
                                           {Weighting::softmax, "softmax"},
                                           {Weighting::uniform, "uniform"}}};
constexpr Words<RopeLayout, 2> kRopes{{{RopeLayout::neox, "neox"}, {RopeLayout::norm, "norm"}}};
constexpr Words<QkNorm, 3> kQkNorms{
    {{QkNorm::none, "none"}, {QkNorm::per_head, "per-head"}, {QkNorm::full, "full"}}};

template <typename T, size_t N>
std::string_view name_of(const Words<T, N>& words, T value) noexcept {
    for (const auto& [v, name] : words)
        if (v == value) return name;
    return "model";  // Selection::model, which no file stores
}

template <typename T, size_t N>
T parse(const Words<T, N>& words, std::string_view name, std::string_view what) {
    std::string known;
    for (const auto& [value, word] : words) {
        if (word == name) return value;
        known += (known.empty() ? "" : ", ") + std::string(word);
    }
    throw Error(what, "unknown word \"" + std::string(name) + "\", expected one of " + known);
}

}  // namespace

std::string_view score_name(Score score) noexcept { return name_of(kScores, score); }
Score parse_score(std::string_view name) { return parse(kScores, name, "router score"); }
std::string_view selection_name(Selection selection) noexcept {
    return name_of(kSelections, selection);
}
Selection parse_selection(std::string_view name) {
    return parse(kSelections, name, "router selection");
}
std::string_view weighting_name(Weighting weighting) noexcept {
    return name_of(kWeightings, weighting);
}
Weighting parse_weighting(std::string_view name) {
    return parse(kWeightings, name, "router weight");
}
std::string_view rope_name(RopeLayout layout) noexcept { return name_of(kRopes, layout); }
RopeLayout parse_rope(std::string_view name) { return parse(kRopes, name, "rope layout"); }
std::string_view qk_norm_name(QkNorm norm) noexcept { return name_of(kQkNorms, norm); }
QkNorm parse_qk_norm(std::string_view name) { return parse(kQkNorms, name, "q/k norm"); }

}  // namespace muster
