// SPDX-License-Identifier: Apache-2.0
#include "muster/generate/scheduler.h"

#include <algorithm>
#include <utility>

#include "muster/core/error.h"
#include "muster/generate/end_tokens.h"

namespace muster {
namespace {

constexpr int kMostSequences = 4096;

int checked_context(const Model& model, const SchedulerOptions& o) {
    const auto expect = [](bool good, const char* name, int64_t value, const char* expected) {
        if (!good)
            throw Error("scheduler", std::string(name) + " is " + std::to_string(value) +
                                         ", expected " + expected);
    };
    expect(o.sequences >= 1 && o.sequences <= kMostSequences, "the number of sequences",
           o.sequences, "1 to 4096");
    expect(o.context >= 0, "the context", o.context, "at least 0");
    expect(o.max_rows >= o.sequences, "the number of rows of a pass", o.max_rows,
           "at least that of sequences");
    expect(o.prompt_rows >= 0, "the number of rows of prompts", o.prompt_rows, "at least 0");
    return o.context > 0 ? o.context : model.config().context;
}

}  // namespace

struct Scheduler::Waiting {
    uint64_t id;
    Request request;
    RequestRouting routing;
};

/// A cache and the request that works on it.
struct Scheduler::Slot {
    Slot(const ModelConfig& config, int context, DType kv) : cache(config, context, kv) {}

    KvCache cache;
    std::string policy;  ///< under which the cache's tokens were computed; empty: not to be reused
    uint64_t id = 0;     ///< of its last request: the greater, the later
    std::unique_ptr<RequestRouting> routing;
    std::unique_ptr<Generation> generation;  ///< none: free
    std::function<void(Completion)> done;

    size_t common(const Waiting& w) const {
        if (policy.empty() || policy != w.routing.policy().to_string()) return 0;
        const auto& a = w.request.prompt;
        const auto b = cache.tokens();
        return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first -
                                   a.begin());
    }
};

Scheduler::Scheduler(const Model& model, Executor& executor, const SchedulerOptions& options)
    : model_(model),
      options_(options),
      context_(checked_context(model, options)),
      end_tokens_(end_tokens(model)),
      passes_(model, executor, options.max_rows, options.compute, options.prompt_rows) {
    for (int i = 0; i < options.sequences; ++i)
        slots_.push_back(std::make_unique<Slot>(model.config(), context_, options.kv));
    active_.reserve(slots_.size());
}

Scheduler::~Scheduler() {
    for (Waiting& w : waiting_) finish(w.id, w.request.on_done, nullptr);
    for (const auto& slot : slots_)
        if (slot->generation) finish(slot->id, slot->done, slot->generation.get());
}

uint64_t Scheduler::submit(Request request) {
    Generation::check(model_.config(), request.prompt, context_, request.generate);
    RequestRouting routing = generation_routing(model_.config(), request.policy);
    routing.set_seed(request.generate.sampler.seed);
    uint64_t id = 0;
    {
        const std::lock_guard lock(mutex_);
        if (waiting_.size() >= options_.waiting)
            throw Error("scheduler", std::to_string(waiting_.size()) +
                                         " requests are waiting, which are as many as may");
        id = next_id_++;
        waiting_.push_back({id, std::move(request), std::move(routing)});
    }
    wake_.notify_one();
    return id;
}

void Scheduler::cancel(uint64_t id) {
    {
        const std::lock_guard lock(mutex_);
        if (id == 0 || id >= next_id_) return;
        cancels_.push_back(id);
    }
    wake_.notify_one();
}

Scheduler::Load Scheduler::load() const {
    const std::lock_guard lock(mutex_);
    return {active_count_, waiting_.size()};
}

/// Ends a request whose generation, if it has begun, may be unfinished.
void Scheduler::finish(uint64_t id, std::function<void(Completion)>& done, Generation* generation) {
    Completion completion;
    completion.id = id;
    try {
        if (generation != nullptr) {
            generation->cancel();
            completion.result = generation->result();
        } else {
            completion.result.stop = StopReason::callback;
        }
    } catch (...) {
        completion.error = std::current_exception();
    }
    if (done) done(std::move(completion));
}

void Scheduler::apply_cancels() {
    std::vector<Waiting> dropped;
    {
        const std::lock_guard lock(mutex_);
        cancels_now_.swap(cancels_);
        for (const uint64_t id : cancels_now_) {
            const auto found = std::find_if(waiting_.begin(), waiting_.end(),
                                            [&](const Waiting& w) { return w.id == id; });
            if (found == waiting_.end()) continue;
            dropped.push_back(std::move(*found));
            waiting_.erase(found);
        }
    }
    for (Waiting& w : dropped) finish(w.id, w.request.on_done, nullptr);
    for (const auto& slot : slots_) {
        if (!slot->generation ||
            std::find(cancels_now_.begin(), cancels_now_.end(), slot->id) == cancels_now_.end())
            continue;
        try {
            slot->generation->cancel();
        } catch (...) {
            slot->generation->fail(std::current_exception());
        }
    }
    cancels_now_.clear();
}

/// The free slot whose cache saves most, else the one unused for longest; null: none is free.
Scheduler::Slot* Scheduler::best_slot(const Waiting& request) {
    Slot* best = nullptr;
    size_t most = 0;
    for (const auto& slot : slots_) {
        if (slot->generation) continue;
        const size_t common = slot->common(request);
        if (best == nullptr || common > most || (common == most && slot->id < best->id)) {
            best = slot.get();
            most = common;
        }
    }
    return best;
}

void Scheduler::start(Slot& slot, Waiting w) {
    if (slot.common(w) == 0) slot.cache.truncate(0);
    slot.id = w.id;
    slot.done = std::move(w.request.on_done);
    const bool moves = w.routing.controlled() || w.routing.timed() || w.routing.random();
    slot.policy = moves ? "" : w.routing.policy().to_string();
    slot.routing = std::make_unique<RequestRouting>(std::move(w.routing));
    try {
        const GenerationPlace place{model_, end_tokens_, slot.cache, *slot.routing};
        slot.generation = std::make_unique<Generation>(place, std::move(w.request.prompt),
                                                       std::move(w.request.generate));
    } catch (...) {
        Completion completion;
        completion.id = slot.id;
        completion.error = std::current_exception();
        if (slot.done) slot.done(std::move(completion));
    }
}

void Scheduler::admit() {
    for (;;) {
        std::unique_lock lock(mutex_);
        Slot* slot = waiting_.empty() ? nullptr : best_slot(waiting_.front());
        if (slot == nullptr) return;
        Waiting next = std::move(waiting_.front());
        waiting_.pop_front();
        lock.unlock();
        start(*slot, std::move(next));
    }
}

/// Frees the slots of what is finished, then tells who asked.
void Scheduler::complete() {
    int active = 0;
    for (const auto& slot : slots_) {
        if (!slot->generation) continue;
        if (!slot->generation->finished()) {
            ++active;
            continue;
        }
        std::function<void(Completion)> done = std::move(slot->done);
        finish(slot->id, done, slot->generation.get());
        slot->generation.reset();
    }
    const std::lock_guard lock(mutex_);
    active_count_ = active;
}

bool Scheduler::step() {
    apply_cancels();
    admit();
    active_.clear();
    for (const auto& slot : slots_)
        if (slot->generation && !slot->generation->finished())
            active_.push_back(slot->generation.get());
    const bool any = std::any_of(slots_.begin(), slots_.end(),
                                 [](const auto& slot) { return slot->generation != nullptr; });
    if (!any) return false;
    // Slots keep no order of arrival; prompts are read in it.
    std::sort(active_.begin(), active_.end(),
              [](const Generation* a, const Generation* b) { return a->started() < b->started(); });
    PassOptions pass;
    pass.trace = options_.trace;
    if (!active_.empty()) passes_.run(active_, pass);
    complete();
    return true;
}

void Scheduler::drain() {
    while (step()) {
    }
}

void Scheduler::run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
        if (step()) continue;
        std::unique_lock lock(mutex_);
        wake_.wait(lock, stop, [this] { return !waiting_.empty() || !cancels_.empty(); });
    }
}

}  // namespace muster
