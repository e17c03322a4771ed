// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "muster/core/executor.h"

namespace muster {

/// The engine's own threads: `threads` workers, of which the caller of run() is worker 0. Between
/// runs the others spin for a short while, then sleep. A run waits for those that took a task, not
/// for those that have not got a core meanwhile. One run at a time; run() must be called from
/// one thread at a time.
class ThreadTeam final : public Executor {
  public:
    /// `threads` >= 1; 0 means as many as the process may use. Throws Error where the system does
    /// not start them.
    explicit ThreadTeam(int threads = 0);
    ~ThreadTeam() override;
    ThreadTeam(const ThreadTeam&) = delete;
    ThreadTeam& operator=(const ThreadTeam&) = delete;

    int workers() const noexcept override { return static_cast<int>(threads_.size()) + 1; }
    void run(int tasks, TaskRef f) override;

  private:
    void stop();
    bool take_task(int worker);
    void work(int worker);

    std::vector<std::thread> threads_;
    /// Written only while no task is left to claim: whoever claims one has read the run's own.
    std::atomic<const TaskRef*> job_{nullptr};
    std::atomic<int> tasks_{0};
    /// Number of the run (high half) and its tasks that nobody has claimed (low half).
    std::atomic<uint64_t> state_{0};
    std::atomic<int> unfinished_{0};  ///< tasks of the run
    std::atomic<int> asleep_{0};
    std::atomic<bool> stop_{false};
    std::mutex mutex_;
    std::condition_variable wake_;
};

/// How many CPUs this process may use (its affinity mask).
int available_cpus() noexcept;

}  // namespace muster
