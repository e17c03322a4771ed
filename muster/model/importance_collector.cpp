// SPDX-License-Identifier: Apache-2.0
#include "muster/model/importance_collector.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "muster/core/error.h"
#include "muster/experts/expert_kernels.h"
#include "muster/model/importance.h"

namespace muster {
namespace {

constexpr double kEnoughLent = 512;  // rows: more would not change the means
constexpr int kLogitRows = 32;

void add_squares(std::vector<double>& sums, int64_t first, const float* x, int64_t n) {
    double* to = sums.data() + first;
    for (int64_t i = 0; i < n; ++i) to[i] += double{x[i]} * x[i];
}

void add_row(ImportanceSums::Entry& e, int64_t matrix, const float* x, bool lent) {
    add_squares(lent ? e.lent_sums : e.sums, matrix * e.cols, x, e.cols);
    (lent ? e.lent_counts : e.counts)[static_cast<size_t>(matrix)] += 1;
}

/// Tensors of experts that could be one stacked tensor.
struct Stack {
    std::vector<int64_t> shape;
    int64_t parts = 0, last = 0;
    bool equal = true;

    bool whole() const { return equal && last == parts - 1; }
};

std::map<std::string, Stack> find_stacks(const WeightMap& file) {
    std::map<std::string, Stack> stacks;
    for (const auto& [name, tensor] : file.tensors()) {
        const auto part = stacked_part(name);
        if (!part || file.has_tensor(part->tensor)) continue;
        Stack& stack = stacks[part->tensor];
        if (stack.parts++ == 0) stack.shape = tensor.shape;
        stack.equal = stack.equal && tensor.shape == stack.shape;
        stack.last = std::max(stack.last, part->matrix);
    }
    return stacks;
}

}  // namespace

ImportanceCollector::ImportanceCollector(const Model& model, Executor& executor, int lend_rows)
    : executor_(executor), lend_rows_(lend_rows) {
    if (model.panel_bytes() > 0)
        throw Error("imatrix", "weights are arranged for integers, expected them as in the file");
    const std::map<std::string, Stack> stacks = find_stacks(model.file());
    for (const auto& [name, tensor] : model.file().tensors()) {
        if (tensor.shape.size() < 2) continue;
        Place p{tensor.data, tensor.data + tensor.bytes(), nullptr, 1, 0};
        if (tensor.shape.size() > 2)
            p.matrices = tensor.elements() / (tensor.shape.back() * *(tensor.shape.end() - 2));
        const bool head = tensor.data == model.weights().head.data;
        const auto part = stacked_part(name);
        const auto stack = part ? stacks.find(part->tensor) : stacks.end();
        if (stack != stacks.end() && stack->second.whole()) {
            p.entry = &sums_.tensors[part->tensor];
            p.first = part->matrix;
            if (p.entry->counts.empty()) p.entry->resize(stack->second.parts, tensor.shape.back());
        } else if (name.starts_with("blk.") || head) {
            p.entry = &sums_.tensors[name];
            p.entry->resize(p.matrices, tensor.shape.back());
        }
        places_.push_back(p);
    }
    std::sort(places_.begin(), places_.end(),
              [](const Place& a, const Place& b) { return a.begin < b.begin; });
}

void ImportanceCollector::go_on_from(const ImportanceSums& sums) {
    for (const auto& [name, entry] : sums.tensors)
        if (sums_.tensors.find(name) == sums_.tensors.end())
            throw Error("imatrix", "tensor " + name + " is not in the model, expected sums of it");
    sums_.add(sums, "imatrix");
}

ImportanceCollector::Target ImportanceCollector::find(const WeightMatrix& w) const {
    auto at = std::upper_bound(places_.begin(), places_.end(), w.data,
                               [](const std::byte* p, const Place& x) { return p < x.begin; });
    if (at == places_.begin()) return {};
    --at;
    if (w.data >= at->end || at->entry == nullptr || at->entry->cols != w.cols) return {};
    return {at->entry, at->first + (w.data - at->begin) / ((at->end - at->begin) / at->matrices)};
}

void ImportanceCollector::product(const WeightMatrix& w, MatrixView<const float> x) {
    const Target target = find(w);
    if (target.entry == nullptr) return;
    for (int64_t t = 0; t < x.rows; ++t) add_row(*target.entry, target.matrix, x.row(t), false);
}

bool ImportanceCollector::used(const Expert& expert) const {
    const Target up = find(expert.up);
    return up.entry == nullptr || up.entry->counts[static_cast<size_t>(up.matrix)] > 0;
}

void ImportanceCollector::experts(const ExpertActivations& a) {
    add_rows(a, false);
    if (lend_rows_ > 0 && a.logits.data != nullptr) lend(a);
}

void ImportanceCollector::add_rows(const ExpertActivations& a, bool lent) {
    for (int e = 0; e < a.bank.size(); ++e) {
        const Expert& expert = a.bank.experts[static_cast<size_t>(e)];
        const int first = a.saved.plan.expert_offsets[static_cast<size_t>(e)];
        const int last = first + a.saved.plan.expert_rows(e);
        for (const WeightMatrix* w : {&expert.up, &expert.gate}) {
            if (w->empty()) continue;
            const Target target = find(*w);
            if (target.entry == nullptr) continue;
            if (lent) target.entry->make_lent();
            for (int r = first; r < last; ++r)
                add_row(*target.entry, target.matrix,
                        a.x.row(a.saved.plan.tokens[static_cast<size_t>(r)]), lent);
        }
        for (int r = first; r < last; ++r) add_hidden(a, e, r, lent);
    }
}

/// Row r of the plan as the down matrix of expert e takes it.
void ImportanceCollector::add_hidden(const ExpertActivations& a, int e, int r, bool lent) {
    const Expert& expert = a.bank.experts[static_cast<size_t>(e)];
    const Target target = find(expert.down);
    if (target.entry == nullptr) return;
    if (lent) target.entry->make_lent();
    const int64_t at = a.saved.row_offsets[static_cast<size_t>(r)];
    hidden_.resize(static_cast<size_t>(expert.width()));
    HiddenRow row;
    row.gate = a.bank.gated ? a.saved.gate.data() + at : nullptr;
    row.up = a.saved.up.data() + at;
    row.hidden = hidden_.data();
    row.n = expert.width();
    expert_kernels(current_isa()).forward[static_cast<size_t>(a.bank.activation)](row);
    add_row(*target.entry, target.matrix, hidden_.data(), lent);
}

/// Fills `routes_` with the rows that unused experts are lent; false: there is none.
bool ImportanceCollector::plan_lending(const ExpertActivations& a) {
    const auto rows = static_cast<int>(a.x.rows);
    by_token_.resize(static_cast<size_t>(rows));
    for (auto& experts : by_token_) experts.clear();
    bool any = false;
    for (int e = 0; e < a.bank.size(); ++e) {
        const Expert& expert = a.bank.experts[static_cast<size_t>(e)];
        if (used(expert)) continue;
        const Target up = find(expert.up);
        if (!up.entry->lent_counts.empty() &&
            up.entry->lent_counts[static_cast<size_t>(up.matrix)] >= kEnoughLent)
            continue;
        any = true;
        order_.resize(static_cast<size_t>(rows));
        for (int t = 0; t < rows; ++t) order_[static_cast<size_t>(t)] = t;
        const int n = std::min(rows, lend_rows_);
        std::partial_sort(order_.begin(), order_.begin() + n, order_.end(), [&](int x, int y) {
            return a.logits(x, e) > a.logits(y, e) || (a.logits(x, e) == a.logits(y, e) && x < y);
        });
        for (int i = 0; i < n; ++i)
            by_token_[static_cast<size_t>(order_[static_cast<size_t>(i)])].push_back(e);
    }
    routes_.clear(a.bank.size());
    for (const auto& experts : by_token_) {
        for (const int e : experts) {
            routes_.experts.push_back(e);
            routes_.weights.push_back(1);
        }
        routes_.offsets.push_back(routes_.activations());
    }
    return any;
}

void ImportanceCollector::lend(const ExpertActivations& a) {
    if (!plan_lending(a)) return;
    output_.reserve(static_cast<size_t>(a.x.rows * a.x.cols));
    moe_forward(a.bank, routes_, a.x, {output_.data(), a.x.rows, a.x.cols}, workspace_, executor_,
                Compute::f32, false, &saved_);
    add_rows({a.layer, a.bank, a.x, saved_, a.logits}, true);
}

int64_t collect_importance(const Model& model, Executor& executor, std::span<const int32_t> tokens,
                           const ImportanceOptions& options, ImportanceSums& sums) {
    const Vocabulary& v = model.tokenizer().vocabulary();
    const int begin = v.add_bos && v.bos >= 0 ? 1 : 0;
    if (options.window < 2)
        throw Error("imatrix", "a window of " + std::to_string(options.window) +
                                   " tokens, expected at least 2");
    const auto step = static_cast<size_t>(options.window - begin);
    // The rest of the text that fills no chunk is left out, unless it is all there is.
    const auto total = static_cast<int64_t>(std::max<size_t>(tokens.size() / step, 1));
    int64_t last = options.from_chunk + (options.most_chunks > 0 ? options.most_chunks : total);
    last = std::min(last, total);
    if (tokens.empty() || options.from_chunk >= last)
        throw Error("imatrix", "the text has " + std::to_string(tokens.empty() ? 0 : total) +
                                   " chunks, expected more than " +
                                   std::to_string(options.from_chunk));
    RequestRouting routing(model.config(), options.policy);
    ForwardContext context(model, executor, options.window, options.compute);
    KvCache cache(model.config(), options.window);
    ImportanceCollector collector(model, executor, options.lend_rows);
    collector.go_on_from(sums);
    PassOptions pass;
    pass.activations = &collector;
    std::vector<BatchRow> rows;
    for (int64_t c = options.from_chunk; c < last; ++c) {
        rows.clear();
        if (begin > 0) rows.push_back({v.bos, &cache, &routing, options.process_head});
        const auto chunk = tokens.subspan(static_cast<size_t>(c) * step);
        for (const int32_t id : chunk.first(std::min(step, chunk.size())))
            rows.push_back({id, &cache, &routing, options.process_head});
        cache.truncate(0);
        for (std::span<const BatchRow> left = rows; !left.empty();) {
            const auto most = static_cast<size_t>(routing.rows_until_update(cache.length()));
            const auto part = left.first(std::min(left.size(), most));
            context.forward(part, pass);
            for (int i = 0; i < context.wanted(); i += kLogitRows)
                context.logits(i, std::min(kLogitRows, context.wanted() - i));
            left = left.subspan(part.size());
        }
        ++collector.sums().chunks;
        if (options.on_chunk && !options.on_chunk(collector.sums(), c + 1, last)) break;
    }
    sums = std::move(collector.sums());
    return total;
}

}  // namespace muster
