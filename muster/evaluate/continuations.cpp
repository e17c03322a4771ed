// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/continuations.h"

#include <algorithm>
#include <numeric>

#include "muster/core/error.h"
#include "muster/kernels/softmax.h"
#include "muster/tokenizer/jinja_text.h"

namespace muster {
namespace {

constexpr int kHeadRows = 32;  // rows of logits at a time: 32 * vocab floats

int common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
    return static_cast<int>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first -
                            a.begin());
}

/// Drops tokens of the context behind the begin token, so that all but the last token fit.
void drop_tokens(EncodedContinuations& e, const Vocabulary& vocabulary, int window,
                 const std::string& where) {
    size_t longest = 0;
    for (const auto& ids : e.tokens) longest = std::max(longest, ids.size());
    e.dropped = std::max(0, static_cast<int>(longest) - 1 - window);
    if (e.dropped == 0) return;
    const int kept = vocabulary.bos >= 0 && e.tokens[0][0] == vocabulary.bos ? 1 : 0;
    for (const int first : e.first)
        if (first - e.dropped < std::max(1, kept))
            throw Error(where, "the continuation does not fit a window of " +
                                   std::to_string(window) + " tokens");
    for (size_t c = 0; c < e.tokens.size(); ++c) {
        const auto begin = e.tokens[c].begin() + kept;
        e.tokens[c].erase(begin, begin + e.dropped);
        e.first[c] -= e.dropped;
    }
}

}  // namespace

EncodedContinuations encode_continuations(const Tokenizer& tokenizer, std::string_view context,
                                          std::span<const std::string> continuations, int window,
                                          const std::string& where) {
    EncodedContinuations out;
    const std::string_view stem = jinja::strip(context, jinja::Side::right);
    const std::string_view space = context.substr(stem.size());
    const std::vector<int32_t> before = tokenizer.encode(stem);
    for (const std::string& continuation : continuations) {
        std::string whole(stem);
        whole.append(space).append(continuation);
        std::vector<int32_t> ids = tokenizer.encode(whole);
        const int first = common_prefix(before, ids);
        if (first < 1)
            throw Error(where, "there is no token before the continuation to predict it from");
        if (static_cast<size_t>(first) == ids.size())
            throw Error(where, "a continuation has no token of its own");
        out.tokens.push_back(std::move(ids));
        out.first.push_back(first);
    }
    drop_tokens(out, tokenizer.vocabulary(), window, where);
    return out;
}

ContinuationScorer::ContinuationScorer(ForwardContext& context, KvCache& cache,
                                       const RequestRouting& routing)
    : context_(context), cache_(cache), routing_(routing) {
    cache_.truncate(0);
}

void ContinuationScorer::take(const EncodedContinuations& encoded, std::span<const int> which,
                              int first_row, int unwanted, ContinuationScores& out) {
    const int wanted = context_.wanted();
    for (int begin = 0; begin < wanted; begin += kHeadRows) {
        const int n = std::min(kHeadRows, wanted - begin);
        const MatrixView<const float> logits = context_.logits(begin, n);
        double normalizers[kHeadRows];
        int32_t likeliest[kHeadRows];
        context_.executor().run(n, [&](int i, int) {
            const std::span<const float> row(logits.row(i), static_cast<size_t>(logits.cols));
            normalizers[i] = log_sum_exp(row);
            likeliest[i] =
                static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
        });
        for (int i = 0; i < n; ++i) {
            const int target = first_row + unwanted + begin + i + 1;
            const auto experts = context_.experts_of(unwanted + begin + i);
            for (const int c : which) {
                if (target < encoded.first[c]) continue;
                const int32_t id = encoded.tokens[c][target];
                ContinuationScore& score = out.each[c];
                score.log_probability += logits(i, id) - normalizers[i];
                score.greedy = score.greedy && id == likeliest[i];
                ++score.tokens;
                ++out.tokens;
                for (size_t l = 0; l < experts.size(); ++l) out.experts[l] += experts[l];
            }
        }
    }
}

/// Computes rows [begin, end) of the continuations `which`, which agree there.
void ContinuationScorer::pass(const EncodedContinuations& encoded, std::span<const int> which,
                              int begin, int end, RequestRouting& routing,
                              ContinuationScores& out) {
    const std::vector<int32_t>& tokens = encoded.tokens[which.front()];
    int first = encoded.first[which.front()];
    for (const int c : which) first = std::min(first, encoded.first[c]);
    for (int at = begin, stop = begin; at < end; at = stop) {
        stop = std::min(end, at + std::min(context_.max_rows(), routing.rows_until_update(at)));
        rows_.clear();
        // Row t predicts token t + 1.
        for (int t = at; t < stop; ++t)
            rows_.push_back({tokens[t], &cache_, &routing, t + 1 >= first});
        context_.forward(rows_);
        take(encoded, which, at, std::clamp(first - 1 - at, 0, stop - at), out);
    }
}

ContinuationScores ContinuationScorer::score(const EncodedContinuations& encoded) {
    const auto count = static_cast<int>(encoded.tokens.size());
    MUSTER_ASSERT(count >= 1 && encoded.first.size() == encoded.tokens.size());
    ContinuationScores out;
    out.each.resize(encoded.tokens.size());
    out.experts.resize(context_.model().config().layers.size());
    // The last token of a text predicts nothing, so that its row is not computed.
    int shared = static_cast<int>(encoded.tokens[0].size()) - 1;
    int first = encoded.first[0];
    for (int c = 1; c < count; ++c) {
        shared = std::min({shared, common_prefix(encoded.tokens[0], encoded.tokens[c]),
                           static_cast<int>(encoded.tokens[c].size()) - 1});
        first = std::min(first, encoded.first[c]);
    }
    RequestRouting routing = routing_;
    const int held = routing.controlled() ? 0 : common_prefix(cache_.tokens(), encoded.tokens[0]);
    const int begin = std::min({held, shared, first - 1});
    cache_.truncate(begin);
    std::vector<int> all(static_cast<size_t>(count));
    std::iota(all.begin(), all.end(), 0);
    pass(encoded, all, begin, shared, routing, out);
    for (const int c : all) {
        cache_.truncate(shared);
        RequestRouting branch = routing;
        const int which[] = {c};
        pass(encoded, which, shared, static_cast<int>(encoded.tokens[c].size()) - 1, branch, out);
    }
    return out;
}

}  // namespace muster
