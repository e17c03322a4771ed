// SPDX-License-Identifier: Apache-2.0
#include "muster/report/pareto_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "muster/report/html_text.h"
#include "muster/report/page_files.h"

namespace muster {
namespace {

// One panel, in the drawing's units (pixels at full width).
constexpr double kPanel = 530, kGap = 20, kHeight = 350;
constexpr double kLeft = 62, kRight = 18, kTop = 34, kBottom = 52;
constexpr double kLetter = 7.2, kLine = 13;  // of a bold label of 12 pixels

struct Point {
    double x = 0, y = 0, low = 0, high = 0;  ///< y in percent
    std::string label, says;
    bool front = false;
};

struct Panel {
    double left = 0;  ///< of the panel
    std::string x_title, y_title;
    std::vector<Point> points;
    double x0 = 0, x1 = 1, y0 = 0, y1 = 1;  ///< ranges

    double px(double x) const {
        return left + kLeft + (kPanel - kLeft - kRight) * (x - x0) / (x1 - x0);
    }
    double py(double y) const {
        return kTop + (kHeight - kTop - kBottom) * (1 - (y - y0) / (y1 - y0));
    }
};

struct Box {
    double x = 0, y = 0, w = 0, h = 0;
    double overlap(const Box& o) const {
        const double dx = std::min(x + w, o.x + o.w) - std::max(x, o.x);
        const double dy = std::min(y + h, o.y + o.h) - std::max(y, o.y);
        return dx > 0 && dy > 0 ? dx * dy : 0;
    }
};

/// Nats as percent of perplexity.
double percent(double nats) { return 100 * std::expm1(nats); }

/// The least step of 1, 2, 2.5 or 5 times a power of ten that makes at most `most` parts.
double tick_step(double span, int most) {
    const double power = std::pow(10, std::floor(std::log10(span / most)));
    for (const double m : {1.0, 2.0, 2.5, 5.0})
        if (span / (m * power) <= most) return m * power;
    return 10 * power;
}

std::string number(double v) { return fmt::format("{:.6g}", std::abs(v) < 1e-12 ? 0 : v); }

void fit(Panel& panel) {
    const auto pad = [](double& low, double& high, double share) {
        const double span = high > low ? high - low : std::max(1.0, std::abs(high));
        low -= span * share;
        high += span * share;
    };
    panel.x0 = panel.y0 = std::numeric_limits<double>::infinity();
    panel.x1 = panel.y1 = -panel.x0;
    for (const Point& p : panel.points) {
        panel.x0 = std::min(panel.x0, p.x);
        panel.x1 = std::max(panel.x1, p.x);
        panel.y0 = std::min({panel.y0, p.y, p.low});
        panel.y1 = std::max({panel.y1, p.y, p.high});
    }
    pad(panel.x0, panel.x1, 0.09);
    pad(panel.y0, panel.y1, 0.08);
}

std::string axes(const Panel& panel) {
    std::string out;
    const double bottom = kHeight - kBottom, right = panel.left + kPanel - kRight;
    const double step = tick_step(panel.y1 - panel.y0, 6);
    for (double v = std::ceil(panel.y0 / step) * step; v <= panel.y1; v += step)
        out += fmt::format(
            "<path class=\"grid\" d=\"M{:.1f} {:.1f}H{:.1f}\"/><text x=\"{:.1f}\" y=\"{:.1f}\" "
            "text-anchor=\"end\">{}{} %</text>",
            panel.left + kLeft, panel.py(v), right, panel.left + kLeft - 8, panel.py(v) + 4,
            v > step / 2 ? "+" : "", number(v));
    const double across = tick_step(panel.x1 - panel.x0, 6);
    for (double v = std::ceil(panel.x0 / across) * across; v <= panel.x1; v += across)
        out += fmt::format(
            "<path class=\"grid\" d=\"M{0:.1f} {1:.1f}v5\"/><text x=\"{0:.1f}\" y=\"{2:.1f}\" "
            "text-anchor=\"middle\">{3}</text>",
            panel.px(v), bottom, bottom + 19, number(v));
    out += fmt::format("<path class=\"grid\" d=\"M{:.1f} {:.1f}H{:.1f}\"/>", panel.left + kLeft,
                       bottom, right);
    out += fmt::format(
        "<text class=\"title\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>"
        "<text class=\"title\" x=\"{:.1f}\" y=\"14\">{}</text>",
        (panel.left + kLeft + right) / 2, kHeight - 8, escaped(panel.x_title), panel.left,
        escaped(panel.y_title));
    return out;
}

/// Puts a label where it covers least of what is there, right of the point by preference.
Box place_label(const Panel& panel, const Point& p, const std::vector<Box>& taken) {
    const double w = kLetter * static_cast<double>(p.label.size()), x = panel.px(p.x);
    const double y = panel.py(p.y), right = panel.left + kPanel;
    const Box places[] = {
        {x + 9, y - kLine / 2, w, kLine},     {x - 9 - w, y - kLine / 2, w, kLine},
        {x + 7, y - kLine - 5, w, kLine},     {x + 7, y + 5, w, kLine},
        {x - 7 - w, y - kLine - 5, w, kLine}, {x - 7 - w, y + 5, w, kLine},
        {x - w / 2, y - 2 * kLine, w, kLine}, {x - w / 2, y + kLine, w, kLine}};
    Box best = places[0];
    double least = std::numeric_limits<double>::infinity();
    for (const Box& box : places) {
        double cost = box.x + box.w > right || box.x < panel.left + kLeft ? 1e4 : 0;
        for (const Box& other : taken) cost += box.overlap(other);
        if (cost < least) {
            least = cost;
            best = box;
        }
    }
    return best;
}

/// The points of the front, from left to right.
std::vector<const Point*> front_of(const Panel& panel) {
    std::vector<const Point*> on;
    for (const Point& p : panel.points)
        if (p.front) on.push_back(&p);
    std::sort(on.begin(), on.end(), [](const Point* a, const Point* b) { return a->x < b->x; });
    return on;
}

/// What labels should not cover: points, their intervals, the line of the front.
std::vector<Box> obstacles(const Panel& panel) {
    std::vector<Box> taken;
    for (const Point& p : panel.points) {
        const double x = panel.px(p.x), y = panel.py(p.y);
        taken.push_back({x - 5, y - 5, 10, 10});
        taken.push_back({x - 1, panel.py(p.high), 2, panel.py(p.low) - panel.py(p.high)});
    }
    const std::vector<const Point*> front = front_of(panel);
    constexpr int kParts = 24;
    for (size_t i = 0; i + 1 < front.size(); ++i) {
        for (int part = 0; part < kParts; ++part) {
            const double t = (part + 0.5) / kParts;
            const double x = std::lerp(panel.px(front[i]->x), panel.px(front[i + 1]->x), t);
            const double y = std::lerp(panel.py(front[i]->y), panel.py(front[i + 1]->y), t);
            taken.push_back({x - 2, y - 1, 4, 2});
        }
    }
    return taken;
}

std::string points(const Panel& panel) {
    std::string out;
    std::vector<Box> taken = obstacles(panel);
    for (const Point& p : panel.points) {
        const double x = panel.px(p.x), y = panel.py(p.y);
        out += fmt::format("<g><title>{}</title>", escaped(p.says));
        if (p.high > p.low)
            out += fmt::format("<path class=\"error\" d=\"M{:.1f} {:.1f}V{:.1f}\"/>", x,
                               panel.py(p.low), panel.py(p.high));
        out += fmt::format("<circle class=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\"/>",
                           p.front ? "dot" : "dominated", x, y);
        const Box label = place_label(panel, p, taken);
        taken.push_back(label);
        out += fmt::format("<text class=\"strong\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text></g>",
                           label.x, label.y + 10, escaped(p.label));
    }
    return out;
}

std::string front_line(const Panel& panel) {
    const std::vector<const Point*> on = front_of(panel);
    std::string d;
    for (const Point* p : on)
        d += fmt::format("{}{:.1f} {:.1f}", d.empty() ? "M" : "L", panel.px(p->x), panel.py(p->y));
    return on.size() > 1 ? "<path class=\"front\" d=\"" + d + "\"/>" : "";
}

std::vector<Panel> panels_of(const EvaluationResult& result) {
    Panel experts, speed;
    speed.left = kPanel + kGap;
    experts.x_title = "experts per token, mean over layers";
    speed.x_title = "tokens scored per second";
    const std::string& first = result.policies.front().policy;
    experts.y_title = speed.y_title = "perplexity against \"" + first + "\" (lower is better)";
    for (const PolicyResult& p : result.policies) {
        // An interval of one unit is infinite and says nothing.
        const bool known = std::isfinite(p.difference.low) && std::isfinite(p.difference.high);
        Point point{p.all.experts, percent(p.difference.mean), 0, 0, p.policy, "", false};
        point.low = known ? percent(p.difference.low) : point.y;
        point.high = known ? percent(p.difference.high) : point.y;
        point.says = fmt::format(
            "{}: {:+.2f} % perplexity [{:+.2f}, {:+.2f}], {:.3g} experts per token, {:.4g} "
            "tokens/s",
            p.policy, point.y, point.low, point.high, p.all.experts, p.tokens_per_second);
        experts.points.push_back(point);
        point.x = p.tokens_per_second;
        speed.points.push_back(point);
    }
    for (Panel* panel : {&experts, &speed}) {
        std::vector<double> cost, loss;
        for (const Point& p : panel->points) {
            cost.push_back(panel == &speed ? -p.x : p.x);
            loss.push_back(p.y);
        }
        const std::vector<bool> front = pareto_front(cost, loss);
        for (size_t i = 0; i < front.size(); ++i) panel->points[i].front = front[i];
        fit(*panel);
    }
    return {experts, speed};
}

/// With `margin` around it.
std::string svg(const EvaluationResult& result, const std::string& inside, double margin) {
    std::string out = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"-{4:.0f} -{4:.0f} {0:.0f} {1:.0f}\" "
        "width=\"{0:.0f}\" role=\"img\" aria-label=\"Perplexity of {2} routing policies over "
        "experts per token and over speed\">{3}",
        2 * (kPanel + margin) + kGap, kHeight + 2 * margin, result.policies.size(), inside, margin);
    for (const Panel& panel : panels_of(result))
        out += axes(panel) + front_line(panel) + points(panel);
    return out + "</svg>\n";
}

std::string table(const EvaluationResult& result) {
    std::string out =
        "<div class=\"table\"><table><thead><tr><th scope=\"col\">policy</th><th scope=\"col\">"
        "perplexity</th><th scope=\"col\">nats per token against the first</th><th "
        "scope=\"col\">experts per token</th><th scope=\"col\">activated parameters</th><th "
        "scope=\"col\">tokens/s</th></tr></thead><tbody>";
    for (const PolicyResult& p : result.policies)
        out += fmt::format(
            "<tr><th scope=\"row\">{}</th><td>{:.4g}</td><td>{:+.4f} [{:+.4f}, {:+.4f}]</td>"
            "<td>{:.3g}</td><td>{:.4g}</td><td>{:.4g}</td></tr>",
            escaped(p.policy), p.all.perplexity, p.difference.mean, p.difference.low,
            p.difference.high, p.all.experts, p.activated, p.tokens_per_second);
    return out + "</tbody></table></div>";
}

}  // namespace

std::vector<bool> pareto_front(const std::vector<double>& cost, const std::vector<double>& loss) {
    std::vector<bool> out(cost.size(), true);
    for (size_t i = 0; i < cost.size(); ++i)
        for (size_t j = 0; j < cost.size(); ++j)
            if (cost[j] <= cost[i] && loss[j] <= loss[i] &&
                (cost[j] < cost[i] || loss[j] < loss[i]))
                out[i] = false;
    return out;
}

std::string pareto_svg(const EvaluationResult& result) { return svg(result, "", 0); }

std::string pareto_svg_file(const EvaluationResult& result) {
    // "svg text" and the like hold inside an SVG file, too; the background is the page's.
    const std::string style = "<style>" + std::string(page_file("colors.css")) +
                              std::string(page_file("page.css")) +
                              "svg { background: var(--paper); }</style>";
    return svg(result, style, 16);
}

std::string pareto_html(const EvaluationResult& result, const std::string& title) {
    const std::string name = escaped(title);
    return "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta "
           "name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>" +
           name + "</title><style>" + std::string(page_file("colors.css")) +
           std::string(page_file("page.css")) + "</style></head><body><header><h1>" + name +
           "</h1></header><main><p>Perplexity of each policy against the first one's, with 95 % "
           "intervals paired over " +
           fmt::format("{} {}", result.units, escaped(result.unit)) +
           ", over experts per token and over speed; on the line stand the policies that no other "
           "beats in both.</p><figure>" +
           pareto_svg(result) + "</figure>" + table(result) + "</main></body></html>\n";
}

}  // namespace muster
