// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "muster/core/executor.h"

namespace muster::train {

/// Runs the engine's kernels on LibTorch's threads, so that one pool uses the cores. As many
/// workers as at::get_num_threads() says at the time of the call.
class TorchExecutor final : public Executor {
  public:
    int workers() const noexcept override;
    void run(int tasks, TaskRef f) override;
};

}  // namespace muster::train
