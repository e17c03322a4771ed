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
    try {
        for (int i = 1; i < threads; ++i) threads_.emplace_back([this, i] { work(i); });
    } catch (const std::exception&) {
        const size_t started = threads_.size();
        stop();
        throw Error("threads", "the system started " + std::to_string(started + 1) + " of " +
                                   std::to_string(threads) + " threads, expected all");
    }
}

ThreadTeam::~ThreadTeam() { stop(); }

void ThreadTeam::stop() {
    {
        std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& t : threads_) t.join();
    threads_.clear();
}

bool ThreadTeam::take_task(int worker) {
    uint64_t state = state_.load(std::memory_order_seq_cst);
    for (;;) {
        const auto unclaimed = static_cast<uint32_t>(state);
        if (unclaimed == 0) return false;
        const TaskRef* job = job_.load(std::memory_order_relaxed);
        const int tasks = tasks_.load(std::memory_order_relaxed);
        if (!state_.compare_exchange_weak(state, state - 1, std::memory_order_seq_cst)) continue;
        (*job)(tasks - static_cast<int>(unclaimed), worker);
        unfinished_.fetch_sub(1, std::memory_order_release);
        return true;
    }
}

void ThreadTeam::run(int tasks, TaskRef f) {
    if (tasks <= 0) return;
    if (threads_.empty() || tasks == 1) {
        for (int i = 0; i < tasks; ++i) f(i, 0);
        return;
    }
    job_.store(&f, std::memory_order_relaxed);
    tasks_.store(tasks, std::memory_order_relaxed);
    unfinished_.store(tasks, std::memory_order_relaxed);
    const uint64_t run = (state_.load(std::memory_order_relaxed) >> 32) + 1;
    state_.store(run << 32 | static_cast<uint64_t>(tasks), std::memory_order_seq_cst);
    if (asleep_.load(std::memory_order_seq_cst) > 0) {
        std::lock_guard lock(mutex_);
        wake_.notify_all();
    }
    while (take_task(0)) {
    }
    for (int spins = 0; unfinished_.load(std::memory_order_acquire) != 0; ++spins) {
        if (spins < kSpins) {
            pause_cpu();
        } else {
            std::this_thread::yield();
        }
    }
}

void ThreadTeam::work(int worker) {
    for (int spins = 0; !stop_.load(std::memory_order_relaxed); ++spins) {
        if (take_task(worker)) {
            spins = 0;
        } else if (spins < kSpins) {
            pause_cpu();
        } else {
            std::unique_lock lock(mutex_);
            asleep_.fetch_add(1, std::memory_order_seq_cst);
            wake_.wait(lock, [&] {
                return stop_ || static_cast<uint32_t>(state_.load(std::memory_order_seq_cst)) != 0;
            });
            asleep_.fetch_sub(1, std::memory_order_relaxed);
            spins = 0;
        }
    }
}

}  // namespace muster
