// SPDX-License-Identifier: Apache-2.0
#include "muster/counterfactual/clusters.h"

#include <algorithm>
#include <limits>

#include "muster/core/random.h"

namespace muster {
namespace {

constexpr int kStarts = 8;
constexpr int kRounds = 100;

using Point = std::vector<double>;

double distance(const Point& a, const Point& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

/// Shares of each layer's activations, layer after layer.
Point shares_of(const WindowMeasurement& w) {
    Point p;
    for (const WindowMeasurement::Layer& layer : w.layers) {
        double all = 0;
        for (const int64_t x : layer.load) all += static_cast<double>(x);
        for (const int64_t x : layer.load) p.push_back(all > 0 ? static_cast<double>(x) / all : 0);
    }
    return p;
}

struct Clustering {
    std::vector<Point> centres;
    std::vector<size_t> member;  ///< [points] the nearest centre
    double error = std::numeric_limits<double>::infinity();
};

std::vector<Point> first_centres(const std::vector<Point>& points, size_t count, Random& random) {
    std::vector<Point> centres{points[random.below(points.size())]};
    while (centres.size() < count) {
        std::vector<double> nearest;
        double all = 0;
        for (const Point& p : points) {
            double least = std::numeric_limits<double>::infinity();
            for (const Point& c : centres) least = std::min(least, distance(p, c));
            nearest.push_back(least);
            all += least;
        }
        if (all <= 0) break;  // fewer different points than centres
        double left = random.uniform() * all;
        size_t chosen = 0;
        while (chosen + 1 < points.size() && (left -= nearest[chosen]) >= 0) ++chosen;
        centres.push_back(points[chosen]);
    }
    return centres;
}

void assign(const std::vector<Point>& points, Clustering& c) {
    c.error = 0;
    c.member.assign(points.size(), 0);
    for (size_t i = 0; i < points.size(); ++i) {
        double least = std::numeric_limits<double>::infinity();
        for (size_t k = 0; k < c.centres.size(); ++k) {
            const double d = distance(points[i], c.centres[k]);
            if (d < least) least = d, c.member[i] = k;
        }
        c.error += least;
    }
}

void move_centres(const std::vector<Point>& points, Clustering& c) {
    std::vector<double> sizes(c.centres.size(), 0);
    std::vector<Point> sums(c.centres.size(), Point(points[0].size(), 0));
    for (size_t i = 0; i < points.size(); ++i) {
        ++sizes[c.member[i]];
        for (size_t j = 0; j < points[i].size(); ++j) sums[c.member[i]][j] += points[i][j];
    }
    for (size_t k = 0; k < c.centres.size(); ++k) {
        if (sizes[k] == 0) continue;  // stays where it is
        for (double& x : sums[k]) x /= sizes[k];
        c.centres[k] = std::move(sums[k]);
    }
}

Clustering k_means(const std::vector<Point>& points, size_t count) {
    Clustering best;
    for (int start = 0; start < kStarts; ++start) {
        Random random(static_cast<uint64_t>(start));
        Clustering c;
        c.centres = first_centres(points, count, random);
        assign(points, c);
        for (int round = 0; round < kRounds; ++round) {
            const std::vector<size_t> before = c.member;
            move_centres(points, c);
            assign(points, c);
            if (c.member == before) break;
        }
        if (c.error < best.error) best = std::move(c);
    }
    return best;
}

ContextCluster cluster_of(std::span<const WindowMeasurement> windows, const Clustering& found,
                          size_t k) {
    ContextCluster out;
    size_t at = 0;
    for (size_t l = 0; l < windows[0].layers.size(); ++l) {
        const size_t n = windows[0].layers[l].load.size();
        std::vector<double> sum(n, 0);
        std::vector<int64_t> tokens(n, 0);
        for (size_t w = 0; w < windows.size(); ++w) {
            if (found.member[w] != k) continue;
            for (size_t e = 0; e < n; ++e) {
                sum[e] += windows[w].layers[l].impact[e];
                tokens[e] += windows[w].layers[l].tokens[e];
            }
        }
        std::vector<float> impact(n, 0), centre(n);
        for (size_t e = 0; e < n; ++e) {
            if (tokens[e] > 0)
                impact[e] = static_cast<float>(sum[e] / static_cast<double>(tokens[e]));
            centre[e] = static_cast<float>(found.centres[k][at++]);
        }
        out.centre.push_back(std::move(centre));
        out.impact.push_back(std::move(impact));
        out.tokens.push_back(std::move(tokens));
    }
    out.windows = std::count(found.member.begin(), found.member.end(), k);
    return out;
}

}  // namespace

std::vector<ContextCluster> context_clusters(std::span<const WindowMeasurement> windows,
                                             int count) {
    std::vector<Point> points;
    for (const WindowMeasurement& w : windows) points.push_back(shares_of(w));
    const size_t most = std::min(static_cast<size_t>(count), points.size());
    const Clustering found = k_means(points, most);
    std::vector<ContextCluster> out;
    for (size_t k = 0; k < found.centres.size(); ++k) {
        out.push_back(cluster_of(windows, found, k));
        if (out.back().windows == 0) out.pop_back();
    }
    return out;
}

}  // namespace muster
