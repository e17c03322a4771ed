// SPDX-License-Identifier: Apache-2.0
#include "muster/core/thread_team.h"

#include <sched.h>

#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "muster/core/error.h"

namespace muster {
namespace {

// Long enough to bridge the serial stretches of a decode step, short enough to leave the core
// to others when the engine is idle.
constexpr int kSpins = 4000;

inline void pause_cpu() noexcept {
#if defined(__x86_64__)
    _mm_pause();
#else
    std::this_thread::yield();
#endif
}

}  // namespace

int available_cpus() noexcept {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
    const int n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
}

ThreadTeam::ThreadTeam(int threads) {
    MUSTER_ASSERT(threads >= 0);
    if (threads == 0) threads = available_cpus();
    for (int i = 1; i < threads; ++i) threads_.emplace_back([this, i] { work(i); });
}

ThreadTeam::~ThreadTeam() {
    {
        std::lock_guard lock(mutex_);
        stop_ = true;
        generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (std::thread& t : threads_) t.join();
}

void ThreadTeam::take_tasks(int worker, const TaskRef& f) {
    for (int task = next_.fetch_add(1, std::memory_order_relaxed); task < tasks_;
         task = next_.fetch_add(1, std::memory_order_relaxed)) {
        f(task, worker);
    }
}

void ThreadTeam::run(int tasks, TaskRef f) {
    if (tasks <= 0) return;
    if (threads_.empty() || tasks == 1) {
        for (int i = 0; i < tasks; ++i) f(i, 0);
        return;
    }
    tasks_ = tasks;
    next_.store(0, std::memory_order_relaxed);
    busy_.store(static_cast<int>(threads_.size()), std::memory_order_relaxed);
    job_.store(&f, std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_seq_cst);
    if (asleep_.load(std::memory_order_seq_cst) > 0) {
        std::lock_guard lock(mutex_);
        wake_.notify_all();
    }
    take_tasks(0, f);
    for (int spins = 0; busy_.load(std::memory_order_acquire) != 0; ++spins) {
        if (spins < kSpins) {
            pause_cpu();
        } else {
            std::this_thread::yield();
        }
    }
}

void ThreadTeam::work(int worker) {
    uint64_t seen = 0;
    for (;;) {
        int spins = 0;
        while (generation_.load(std::memory_order_acquire) == seen) {
            if (++spins < kSpins) {
                pause_cpu();
                continue;
            }
            std::unique_lock lock(mutex_);
            asleep_.fetch_add(1, std::memory_order_seq_cst);
            wake_.wait(lock, [&] { return generation_.load(std::memory_order_seq_cst) != seen; });
            asleep_.fetch_sub(1, std::memory_order_relaxed);
        }
        ++seen;
        if (stop_) return;  // written before the generation moved, which this thread has seen
        take_tasks(worker, *job_.load(std::memory_order_relaxed));
        busy_.fetch_sub(1, std::memory_order_release);
    }
}

}  // namespace muster
