// SPDX-License-Identifier: Apache-2.0
#include "muster/model/names.h"

#include <string>

#include "muster/core/error.h"
#include "muster/routing/policy_names.h"

namespace muster {
namespace {

struct RopeName {
    std::string_view name;
    RopeLayout value;
};
constexpr RopeName kRopeNames[] = {{"neox", RopeLayout::neox}, {"norm", RopeLayout::norm}};

struct QkNormName {
    std::string_view name;
    QkNorm value;
};
constexpr QkNormName kQkNormNames[] = {
    {"none", QkNorm::none}, {"per-head", QkNorm::per_head}, {"full", QkNorm::full}};

template <typename Line, size_t n>
auto parse(const Line (&table)[n], std::string_view name, std::string_view what) {
    if (const Line* line = find_name(table, name)) return line->value;
    throw Error(what, "unknown word \"" + std::string(name) + "\", expected " + list_names(table));
}

}  // namespace

std::string_view score_name(Score score) noexcept { return name_of(kScoreNames, score).name; }
Score parse_score(std::string_view name) { return parse(kScoreNames, name, "router score"); }
std::string_view selection_name(Selection selection) noexcept {
    return name_of(kSelectionNames, selection).name;
}
Selection parse_selection(std::string_view name) {
    return parse(kSelectionNames, name, "router selection");
}
std::string_view weighting_name(Weighting weighting) noexcept {
    return name_of(kWeightingNames, weighting).name;
}
Weighting parse_weighting(std::string_view name) {
    return parse(kWeightingNames, name, "router weight");
}
std::string_view rope_name(RopeLayout layout) noexcept { return name_of(kRopeNames, layout).name; }
RopeLayout parse_rope(std::string_view name) { return parse(kRopeNames, name, "rope layout"); }
std::string_view qk_norm_name(QkNorm norm) noexcept { return name_of(kQkNormNames, norm).name; }
QkNorm parse_qk_norm(std::string_view name) { return parse(kQkNormNames, name, "q/k norm"); }

}  // namespace muster
