// SPDX-License-Identifier: Apache-2.0
#include "muster/core/thread_team.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <vector>

namespace muster {
namespace {

TEST(ThreadTeam, RunsEveryTaskOnceOnValidWorkers) {
    for (const int threads : {1, 2, 3, 7}) {
        ThreadTeam team(threads);
        EXPECT_EQ(team.workers(), threads);
        for (const int tasks : {0, 1, 2, 5, 1000}) {
            std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
            std::atomic<bool> valid{true};
            team.run(tasks, [&](int task, int worker) {
                runs[static_cast<size_t>(task)].fetch_add(1);
                if (worker < 0 || worker >= threads) valid = false;
            });
            EXPECT_TRUE(valid);
            for (const auto& n : runs) EXPECT_EQ(n.load(), 1);
        }
    }
}

// What tasks wrote is visible to the caller, over many short runs and across the workers' sleep.
TEST(ThreadTeam, ManyRunsSeeEachOthersWrites) {
    ThreadTeam team(4);
    std::vector<int64_t> values(64, 0);
    for (int round = 1; round <= 3000; ++round) {
        team.run(64, [&](int task, int) { values[static_cast<size_t>(task)] += task; });
        if (round % 1000 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    for (int64_t i = 0; i < 64; ++i) EXPECT_EQ(values[static_cast<size_t>(i)], 3000 * i);
}

TEST(ThreadTeam, UnevenTasksBalance) {
    ThreadTeam team(2);
    // The first task lasts until all others are done, which only the other worker can do.
    std::atomic<int> done{0};
    team.run(100, [&](int task, int) {
        while (task == 0 && done.load() < 99) std::this_thread::yield();
        ++done;
    });
    EXPECT_EQ(done.load(), 100);
}

TEST(SerialExecutor, RunsInOrder) {
    SerialExecutor executor;
    std::vector<int> order;
    executor.run(4, [&](int task, int worker) {
        EXPECT_EQ(worker, 0);
        order.push_back(task);
    });
    EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3}));
}

}  // namespace
}  // namespace muster
