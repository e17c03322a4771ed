// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <type_traits>

namespace muster {

/// A reference to a callable `void(int task, int worker)`; it must outlive the call it is given to.
class TaskRef {
  public:
    template <typename F>
        requires(!std::is_same_v<std::remove_cvref_t<F>, TaskRef>)
    TaskRef(F&& f)  // NOLINT(bugprone-forwarding-reference-overload): implicit by design
        : object_(const_cast<void*>(static_cast<const void*>(&f))),
          call_([](void* o, int task, int worker) {
              (*static_cast<std::remove_reference_t<F>*>(o))(task, worker);
          }) {}
    void operator()(int task, int worker) const { call_(object_, task, worker); }

  private:
    void* object_;
    void (*call_)(void*, int, int);
};

/// Who runs the tasks of a kernel: the engine's ThreadTeam, or LibTorch's threads in training.
class Executor {
  public:
    virtual ~Executor() = default;

    /// How many workers there are; worker numbers lie in [0, workers()).
    virtual int workers() const noexcept = 0;

    /// Runs f(task, worker) once for every task in [0, tasks), in any order, on any worker, and
    /// returns when all are done. Tasks are handed out one by one, so uneven tasks balance.
    /// Tasks must not throw and must not call run() of the same executor.
    virtual void run(int tasks, TaskRef f) = 0;
};

/// Runs everything on the calling thread.
class SerialExecutor final : public Executor {
  public:
    int workers() const noexcept override { return 1; }
    void run(int tasks, TaskRef f) override {
        for (int i = 0; i < tasks; ++i) f(i, 0);
    }
};

}  // namespace muster
