// SPDX-License-Identifier: Apache-2.0
#include "muster/train/torch_executor.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

namespace muster::train {

int TorchExecutor::workers() const noexcept {
    return at::in_parallel_region() ? 1 : std::max(1, at::get_num_threads());
}

void TorchExecutor::run(int tasks, TaskRef f) {
    const int workers = std::min(this->workers(), tasks);
    std::atomic<int> next{0};
    at::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
        for (int64_t worker = begin; worker < end; ++worker) {
            for (int task = next.fetch_add(1); task < tasks; task = next.fetch_add(1)) {
                f(task, static_cast<int>(worker));
            }
        }
    });
}

}  // namespace muster::train
