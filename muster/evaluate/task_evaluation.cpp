// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/task_evaluation.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "muster/core/error.h"
#include "muster/evaluate/continuations.h"
#include "muster/evaluate/task_metrics.h"
#include "muster/generate/scheduler.h"
#include "muster/generate/token_losses.h"
#include "muster/tokenizer/jinja_text.h"

namespace muster {
namespace {

using Clock = std::chrono::steady_clock;

std::string where_of(const Task& task, const TaskItem& item) {
    return std::string(task.name) + " item " + item.id;
}

/// The items of one task as tokens, and how they are run under a policy.
class Items {
  public:
    Items(const Model& model, const Task& task, const std::vector<TaskItem>& items,
          const TaskOptions& options)
        : model_(model), task_(task), items_(items), options_(options) {
        window_ = options.window > 0 ? options.window : model.config().context;
    }
    virtual ~Items() = default;
    Items(const Items&) = delete;
    Items& operator=(const Items&) = delete;

    /// Records of all items in order, without policy, metrics and group; `step` after each.
    virtual std::vector<TaskRecord> run(const RoutingPolicy& policy,
                                        const std::function<void()>& step) = 0;

  protected:
    const Model& model_;
    const Task& task_;
    const std::vector<TaskItem>& items_;
    const TaskOptions& options_;
    int window_;
};

/// Choices and cloze.
class ScoredItems final : public Items {
  public:
    ScoredItems(const Model& model, const Task& task, const std::vector<TaskItem>& items,
                Executor& executor, const TaskOptions& options)
        : Items(model, task, items, options), executor_(executor) {
        for (const TaskItem& item : items) {
            std::vector<std::string> continuations;
            continuations.reserve(item.choices.size());
            for (const Choice& c : item.choices) continuations.push_back(item.delimiter + c.text);
            encoded_.push_back(encode_continuations(model.tokenizer(), item.context, continuations,
                                                    window_, where_of(task, item)));
            for (const auto& ids : encoded_.back().tokens)
                longest_ = std::max(longest_, static_cast<int>(ids.size()));
        }
    }

    std::vector<TaskRecord> run(const RoutingPolicy& policy,
                                const std::function<void()>& step) override {
        const RequestRouting routing = evaluation_routing(model_.config(), policy);
        KvCache cache(model_.config(), longest_, options_.kv);
        ForwardContext context(model_, executor_, std::min(options_.max_rows, longest_),
                               options_.compute);
        ContinuationScorer scorer(context, cache, routing);
        std::vector<TaskRecord> records;
        for (size_t i = 0; i < items_.size(); ++i) {
            ContinuationScores scores = scorer.score(encoded_[i]);
            TaskRecord r;
            for (size_t c = 0; c < scores.each.size(); ++c) {
                const ContinuationScore& s = scores.each[c];
                const Choice& choice = items_[i].choices[c];
                r.choices.push_back(
                    {choice.text, choice.right, s.log_probability, s.tokens, s.greedy});
            }
            r.experts = std::move(scores.experts);
            r.tokens = scores.tokens;
            r.dropped = encoded_[i].dropped;
            records.push_back(std::move(r));
            step();
        }
        return records;
    }

  private:
    Executor& executor_;
    std::vector<EncodedContinuations> encoded_;
    int longest_ = 0;
};

/// Answers that are written.
class WrittenItems final : public Items {
  public:
    WrittenItems(const Model& model, const Task& task, const std::vector<TaskItem>& items,
                 Executor& executor, const TaskOptions& options)
        : Items(model, task, items, options), executor_(executor) {
        const int room = window_ - options.answer_tokens + 1;
        if (room < 2)
            throw Error("task", "a window of " + std::to_string(window_) +
                                    " tokens, expected more than the answer's " +
                                    std::to_string(options.answer_tokens));
        for (const TaskItem& item : items) {
            std::vector<int32_t> ids = model.tokenizer().encode(item.context);
            if (ids.empty()) throw Error(where_of(task, item), "the context has no token");
            const int dropped = std::max(0, static_cast<int>(ids.size()) - room);
            const int kept = ids[0] == model.tokenizer().vocabulary().bos ? 1 : 0;
            ids.erase(ids.begin() + kept, ids.begin() + kept + dropped);
            longest_ = std::max(longest_, static_cast<int>(ids.size()));
            prompts_.push_back(std::move(ids));
            dropped_.push_back(dropped);
        }
    }

    std::vector<TaskRecord> run(const RoutingPolicy& policy,
                                const std::function<void()>& step) override {
        SchedulerOptions o;
        o.sequences = options_.sequences;
        o.context = longest_ + options_.answer_tokens;
        o.max_rows = std::max(options_.max_rows, options_.sequences);
        o.waiting = items_.size();
        o.compute = options_.compute;
        o.kv = options_.kv;
        std::vector<TaskRecord> records(items_.size());
        std::exception_ptr error;
        size_t done = 0, told = 0;
        Scheduler scheduler(model_, executor_, o);
        for (size_t i = 0; i < items_.size(); ++i)
            scheduler.submit(request(i, policy, records[i], error, done));
        while (!error && scheduler.step())
            for (; told < done; ++told) step();
        if (error) std::rethrow_exception(error);
        return records;
    }

  private:
    Request request(size_t i, const RoutingPolicy& policy, TaskRecord& record,
                    std::exception_ptr& error, size_t& done) const {
        record.experts.assign(model_.config().layers.size(), 0);
        record.dropped = dropped_[i];
        Request r;
        r.prompt = prompts_[i];
        r.policy = policy;
        r.generate.max_tokens = options_.answer_tokens;
        r.generate.sampler.temperature = 0;
        r.generate.stop = task_.stop;
        r.generate.on_token = [&record](const GeneratedToken& token) {
            if (token.id < 0) return true;
            ++record.tokens;
            for (size_t l = 0; l < token.experts.size(); ++l) record.experts[l] += token.experts[l];
            return true;
        };
        r.on_done = [&record, &error, &done](const Completion& c) {
            ++done;
            if (c.error && !error) error = c.error;
            record.answer = jinja::strip(c.result.text);
            if (c.result.speed) record.speed_note = describe(*c.result.speed);
        };
        return r;
    }

    Executor& executor_;
    std::vector<std::vector<int32_t>> prompts_;
    std::vector<int> dropped_;
    int longest_ = 0;
};

std::unique_ptr<Items> prepare(const Model& model, const Task& task,
                               const std::vector<TaskItem>& items, Executor& executor,
                               const TaskOptions& options) {
    if (task.kind == TaskKind::answers)
        return std::make_unique<WrittenItems>(model, task, items, executor, options);
    return std::make_unique<ScoredItems>(model, task, items, executor, options);
}

/// Experts and tokens over all records; the records' sums become means.
void add_up(std::vector<TaskRecord>& records, const ModelConfig& config,
            const RoutingPolicy& policy, TaskPolicyResult& out) {
    out.experts.assign(config.layers.size(), 0);
    for (TaskRecord& r : records) {
        out.tokens += r.tokens;
        if (!r.speed_note.empty()) ++out.speeds_missed, out.speed_note = r.speed_note;
        for (size_t l = 0; l < r.experts.size(); ++l) {
            out.experts[l] += r.experts[l];
            if (r.tokens > 0) r.experts[l] /= static_cast<double>(r.tokens);
        }
    }
    int moe_layers = 0;
    for (size_t l = 0; l < out.experts.size(); ++l) {
        if (out.tokens > 0) out.experts[l] /= static_cast<double>(out.tokens);
        if (config.layers[l].dense()) continue;
        ++moe_layers;
        out.mean_experts += out.experts[l];
    }
    if (moe_layers > 0) out.mean_experts /= moe_layers;
    out.activated = activated_parameters(config, RequestRouting(config, policy), out.experts);
}

/// Throws Error for policies that a task cannot be evaluated under.
void check_policy(const ModelConfig& config, const RoutingPolicy& policy, const Task& task) {
    generation_routing(config, policy);
    if (task.kind != TaskKind::answers) evaluation_routing(config, policy);
}

/// Completes the records and hands them out; gives the values of their metrics.
std::vector<std::vector<double>> finish(std::vector<TaskRecord>& records, const Task& task,
                                        const std::vector<TaskItem>& items,
                                        const std::string& policy, const TaskOptions& options) {
    const auto names = metric_names(task.kind);
    std::vector<std::vector<double>> values;
    for (size_t i = 0; i < items.size(); ++i) {
        TaskRecord& record = records[i];
        record.policy = policy;
        record.item = items[i].id;
        record.group = items[i].group;
        values.push_back(metric_values(task.kind, items[i], record));
        for (size_t m = 0; m < names.size(); ++m)
            record.metrics.emplace_back(names[m], values.back()[m]);
        if (options.on_record) options.on_record(record);
    }
    return values;
}

}  // namespace

TaskResult evaluate_task(const Model& model, const Task& task, const std::vector<TaskItem>& items,
                         Executor& executor, const TaskOptions& options) {
    if (options.policies.empty()) throw Error("task", "no policy is given, expected one");
    if (items.empty()) throw Error("task", "there is no item to evaluate");
    for (const RoutingPolicy& policy : options.policies) check_policy(model.config(), policy, task);
    const auto prepared = prepare(model, task, items, executor, options);
    const auto names = metric_names(task.kind);
    std::vector<size_t> all(items.size());
    std::iota(all.begin(), all.end(), size_t{0});
    TaskResult out{std::string(task.name),
                   std::string(task.metric),
                   static_cast<int64_t>(items.size()),
                   0,
                   executor.workers(),
                   {}};
    int64_t done = 0;
    const auto total = out.items * static_cast<int64_t>(options.policies.size());
    std::vector<std::vector<double>> base;
    for (const RoutingPolicy& policy : options.policies) {
        TaskPolicyResult r;
        r.policy = policy.to_string();
        const auto start = Clock::now();
        auto records = prepared->run(policy, [&] {
            if (options.progress && !options.progress("evaluating", ++done, total))
                throw Error("task", "the evaluation was stopped");
        });
        r.seconds = std::chrono::duration<double>(Clock::now() - start).count();
        add_up(records, model.config(), policy, r);
        const auto values = finish(records, task, items, r.policy, options);
        if (base.empty()) {
            base = values;
            out.cut = std::count_if(records.begin(), records.end(),
                                    [](const TaskRecord& x) { return x.dropped > 0; });
        }
        r.metrics = metric_results(names, values, base, all, options.confidence);
        r.groups = group_results(names, items, values, base, options.confidence);
        out.policies.push_back(std::move(r));
    }
    return out;
}

}  // namespace muster
