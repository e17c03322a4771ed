// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "muster/evaluate/perplexity.h"

namespace muster {

/// Quality of each policy (perplexity against the first one's, with its paired interval) over
/// experts per token and over tokens per second: two charts in one <svg> element, in the colours
/// and classes of page.css.
std::string pareto_svg(const EvaluationResult& result);

/// The same as a file of its own: SVG with its styles, light and dark.
std::string pareto_svg_file(const EvaluationResult& result);

/// As a page with the numbers in a table. `title` is not yet escaped.
std::string pareto_html(const EvaluationResult& result, const std::string& title);

/// Which points no other beats in both: costs less or the same and loses less or the same, one of
/// them truly. Spans of equal length.
std::vector<bool> pareto_front(const std::vector<double>& cost, const std::vector<double>& loss);

}  // namespace muster
