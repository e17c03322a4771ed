// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ctime>
#include <vector>

#include "measure.h"
#include "muster/core/thread_team.h"
#include "muster/cpu/isa.h"

namespace muster::bench {

/// A thread team with a clock. By the wall's clock it measures what a user waits for, on a machine
/// that does nothing else. By processor time it measures what the workers spend in tasks, divided
/// by their number, plus what the caller spends between runs: where other programs take turns on
/// the cores, this comes close to what the wall's clock would show without them (it knows nothing
/// of waiting for the last task of a run, and others still use the caches and the memory).
class MeteredExecutor final : public Executor {
  public:
    enum class Clock { wall, processor };

    MeteredExecutor(int threads, Clock clock)
        : clock_(clock), team_(threads), spent_(static_cast<size_t>(team_.workers())) {}

    int workers() const noexcept override { return team_.workers(); }
    void run(int tasks, TaskRef f) override {
        if (clock_ == Clock::wall) return team_.run(tasks, f);
        const double start = thread_seconds();
        team_.run(tasks, [&](int task, int worker) {
            const double task_start = thread_seconds();
            f(task, worker);
            spent_[static_cast<size_t>(worker)].seconds += thread_seconds() - task_start;
        });
        in_runs_ += thread_seconds() - start;
    }

    /// Seconds since some point.
    double now() const {
        if (clock_ == Clock::wall) return wall_clock();
        double tasks = 0;
        for (const Spent& s : spent_) tasks += s.seconds;
        return thread_seconds() - in_runs_ + tasks / workers();
    }
    template <typename F>
    double time_of(F&& f) const {
        const double start = now();
        f();
        return now() - start;
    }

  private:
    struct alignas(64) Spent {
        double seconds = 0;
    };
    static double thread_seconds() {
        timespec t;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
    }

    Clock clock_;
    ThreadTeam team_;
    std::vector<Spent> spent_;  ///< by worker
    double in_runs_ = 0;        ///< of the caller
};

/// `--threads n` (0: all) and `--cpu-clock 1`; `--isa NAME` makes the kernels use it.
inline MeteredExecutor make_executor(int argc, char** argv, int threads = 0) {
    const bool processor = int_option(argc, argv, "--cpu-clock", 0) != 0;
    if (const char* isa = text_option(argc, argv, "--isa", nullptr)) set_isa(parse_isa(isa));
    return MeteredExecutor(
        int_option(argc, argv, "--threads", threads),
        processor ? MeteredExecutor::Clock::processor : MeteredExecutor::Clock::wall);
}

}  // namespace muster::bench
