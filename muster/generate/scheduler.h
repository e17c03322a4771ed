// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

#include "muster/generate/generation.h"

namespace muster {

struct SchedulerOptions {
    int sequences = 4;      ///< requests worked on at once; each has a cache
    int context = 0;        ///< most tokens of each; 0: the model's context length
    int max_rows = 256;     ///< of one pass, at least `sequences`
    int prompt_rows = 0;    ///< most rows of prompts in a pass that also writes; 0: what has room
    size_t waiting = 1024;  ///< most requests that wait
    Compute compute = Compute::f32;
    DType kv = DType::f32;  ///< of keys and values: f32, f16 or q8_0
    TraceSink* trace = nullptr;
};

/// How a request ended.
struct Completion {
    uint64_t id = 0;
    GenerateResult result;
    std::exception_ptr error;  ///< set: `result` is empty
};

struct Request {
    std::vector<int32_t> prompt;
    RoutingPolicy policy;  ///< `model`: the checkpoint's default
    GenerateOptions generate;
    /// Called exactly once. Must not throw. May be empty.
    std::function<void(Completion)> on_done;
};

/// Works on many requests at once over one model: rows of prompts and answers, each under its own
/// policy, sampler and limits, share passes (continuous batching), so that weights are read once
/// for all of them. Requests begin in the order in which they came, as soon as a cache is free; a
/// cache whose tokens begin like the prompt, computed under the same policy, is preferred and its
/// prefix kept, except under policies whose state belongs to one request (`mean:`, `speed:`, plans
/// with context clusters) and under random ones.
///
/// submit(), cancel() and load() may be called from any thread, also from callbacks. step() and
/// run() belong to one thread at a time, on which all callbacks are called. Model and executor
/// outlive the scheduler. Answers are those of a Session whose seed, also of random selection, is
/// that of the request's sampler, to rounding.
class Scheduler {
  public:
    /// Throws Error when the numbers make no sense, std::bad_alloc.
    Scheduler(const Model& model, Executor& executor, const SchedulerOptions& options = {});
    /// Ends what is left, as cancel() does.
    ~Scheduler();
    Scheduler(const Scheduler&) = delete;
    Scheduler& operator=(const Scheduler&) = delete;

    /// Takes a request and returns its number. Throws Error when it cannot work on the model, does
    /// not fit the context, or too many wait.
    uint64_t submit(Request request);
    /// Ends a request (StopReason::callback) at the next step; unknown numbers are ignored.
    void cancel(uint64_t id);

    /// One pass over everything that can go on; false when there was nothing to do.
    bool step();
    /// Steps until all requests are done.
    void drain();
    /// Steps, and sleeps when there is nothing to do, until `stop` is requested; what is left then
    /// stays for later calls.
    void run(const std::stop_token& stop);

    struct Load {
        int active = 0;
        size_t waiting = 0;
    };
    Load load() const;
    int context() const noexcept { return context_; }

  private:
    struct Waiting;
    struct Slot;

    void apply_cancels();
    void admit();
    Slot* best_slot(const Waiting& request);
    void start(Slot& slot, Waiting w);
    void complete();
    static void finish(uint64_t id, std::function<void(Completion)>& done, Generation* generation);

    const Model& model_;
    const SchedulerOptions options_;
    const int context_;
    std::vector<int32_t> end_tokens_;
    SharedPasses passes_;
    std::vector<std::unique_ptr<Slot>> slots_;
    std::vector<Generation*> active_;    ///< of the step, oldest first
    std::vector<uint64_t> cancels_now_;  ///< of the step

    mutable std::mutex mutex_;  ///< guards what follows
    std::condition_variable_any wake_;
    std::deque<Waiting> waiting_;
    std::vector<uint64_t> cancels_;
    uint64_t next_id_ = 1;
    int active_count_ = 0;
};

}  // namespace muster
