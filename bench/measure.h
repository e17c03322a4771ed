// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#include "muster/core/stats.h"

namespace muster::bench {

/// Seconds since some point.
inline double wall_clock() {
    const auto t = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double>(t).count();
}

/// Processor time of all threads of this process; those that spin while they wait spend it too.
inline double cpu_clock() {
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

using Clock = double (*)();

template <typename F>
double time_of(F&& f, Clock clock = wall_clock) {
    const double start = clock();
    f();
    return clock() - start;
}

/// Measurements of one quantity. Where less is better, `best` is the smallest.
struct Samples {
    std::vector<double> values;

    void add(double v) { values.push_back(v); }
    double median() const { return quantile(values, 0.5); }
    double low() const { return *std::min_element(values.begin(), values.end()); }
    double high() const { return *std::max_element(values.begin(), values.end()); }
    /// Half the distance between the quartiles, relative to the median.
    double spread() const {
        return (quantile(values, 0.75) - quantile(values, 0.25)) / 2 / median();
    }
};

/// Prints lines for people, or with --json one object.
class Report {
  public:
    Report(std::string name, int argc, char** argv) : name_(std::move(name)) {
        for (int i = 1; i < argc; ++i) json_ = json_ || std::strcmp(argv[i], "--json") == 0;
        if (json_) std::printf("{\"benchmark\": \"%s\"", name_.c_str());
    }
    ~Report() {
        if (json_) std::printf("}\n");
    }
    Report(const Report&) = delete;
    Report& operator=(const Report&) = delete;

    /// `scale` turns the samples into `unit`.
    void line(const char* what, const Samples& s, const char* unit, double scale) const {
        if (json_) {
            std::printf(
                ", \"%s [%s]\": {\"runs\": %zu, \"median\": %.6g, \"low\": %.6g, "
                "\"high\": %.6g, \"spread\": %.3g}",
                what, unit, s.values.size(), s.median() * scale, s.low() * scale, s.high() * scale,
                s.spread());
        } else {
            std::printf(
                "%-44s median %9.3f %-8s low %9.3f  high %9.3f  spread %4.1f %%  (%zu runs)\n",
                what, s.median() * scale, unit, s.low() * scale, s.high() * scale, 100 * s.spread(),
                s.values.size());
        }
    }

  private:
    std::string name_;
    bool json_ = false;
};

inline const char* text_option(int argc, char** argv, const char* name, const char* fallback) {
    for (int i = 1; i + 1 < argc; ++i) {
        if (std::strcmp(argv[i], name) == 0) return argv[i + 1];
    }
    return fallback;
}

inline int int_option(int argc, char** argv, const char* name, int fallback) {
    const char* text = text_option(argc, argv, name, nullptr);
    return text != nullptr ? std::atoi(text) : fallback;
}

}  // namespace muster::bench
