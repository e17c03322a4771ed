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
/// runs the others spin for a short while, then sleep. One run at a time; run() must be called from
/// one thread at a time.
class ThreadTeam final : public Executor {
  public:
    /// `threads` >= 1; 0 means as many as the process may use.
    explicit ThreadTeam(int threads = 0);
    ~ThreadTeam() override;
    ThreadTeam(const ThreadTeam&) = delete;
    ThreadTeam& operator=(const ThreadTeam&) = delete;

    int workers() const noexcept override { return static_cast<int>(threads_.size()) + 1; }
    void run(int tasks, TaskRef f) override;

  private:
    void work(int worker);
    void take_tasks(int worker, const TaskRef& f);

    std::vector<std::thread> threads_;
    std::atomic<const TaskRef*> job_{nullptr};
    std::atomic<int> next_{0};
    int tasks_ = 0;
    std::atomic<uint64_t> generation_{0};  ///< counts runs; a worker that sees it move starts
    std::atomic<int> busy_{0};             ///< workers that have not finished the current run
    std::atomic<int> asleep_{0};
    bool stop_ = false;
    std::mutex mutex_;
    std::condition_variable wake_;
};

/// How many CPUs this process may use (its affinity mask).
int available_cpus() noexcept;

}  // namespace muster
