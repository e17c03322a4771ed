// SPDX-License-Identifier: Apache-2.0
#include "muster/model/batch_rows.h"

#include <algorithm>

#include "muster/core/error.h"

namespace muster {

int BatchRows::sequence_of(KvCache* cache) {
    if (!sequences.empty() && caches[sequences.back()] == cache) return sequences.back();
    const auto found = std::find(caches.begin(), caches.end(), cache);
    const auto s = static_cast<int>(found - caches.begin());
    if (found == caches.end()) {
        caches.push_back(cache);
        next_.push_back(cache->length());
    }
    return s;
}

void BatchRows::clear() {
    for (auto* list : {&tokens, &positions32, &sequences}) list->clear();
    positions.clear(), wanted.clear(), runs.clear(), routing.clear(), routings.clear();
    seeds.clear();
    caches.clear(), next_.clear();
}

void BatchRows::add(int32_t token, int64_t position, int sequence, RequestRouting* of) {
    tokens.push_back(token);
    positions.push_back(position);
    positions32.push_back(static_cast<int32_t>(position));
    sequences.push_back(sequence);
    routing.push_back(of);
    seeds.push_back(of != nullptr ? of->seed() : 0);
    if (of != nullptr && std::find(routings.begin(), routings.end(), of) == routings.end())
        routings.push_back(of);
}

void BatchRows::assign(std::span<const BatchRow> rows, const ModelConfig& config) {
    clear();
    branches = false;
    const KvLayerShape shape = kv_shape(config);
    for (size_t t = 0; t < rows.size(); ++t) {
        const BatchRow& row = rows[t];
        MUSTER_ASSERT(row.cache != nullptr);
        MUSTER_ASSERT(row.cache->layers() == config.num_layers() && row.cache->shape(0) == shape);
        if (row.token < 0 || row.token >= config.vocab)
            throw Error("model", "token id " + std::to_string(row.token) + ", expected 0 to " +
                                     std::to_string(config.vocab - 1));
        const int s = sequence_of(row.cache);
        const int64_t position = next_[s]++;
        if (position >= row.cache->capacity())
            throw Error("model", "the context of " + std::to_string(row.cache->capacity()) +
                                     " tokens is full");
        if (sequences.empty() || sequences.back() != s)
            runs.push_back({row.cache, static_cast<int>(t), 0, position});
        ++runs.back().count;
        add(row.token, position, s, row.routing);
        if (row.wanted) wanted.push_back(static_cast<int>(t));
    }
}

void BatchRows::assign(std::span<const BranchRow> rows, const ModelConfig& config) {
    clear();
    branches = true;
    for (size_t t = 0; t < rows.size(); ++t) {
        const auto& [cache, position, of] = rows[t];
        MUSTER_ASSERT(cache != nullptr && cache->layers() == config.num_layers());
        MUSTER_ASSERT(position >= 0 && position < cache->length() && of != nullptr);
        runs.push_back({cache, static_cast<int>(t), 1, position});
        add(cache->tokens()[static_cast<size_t>(position)], position, sequence_of(cache), of);
        wanted.push_back(static_cast<int>(t));
    }
}

}  // namespace muster
