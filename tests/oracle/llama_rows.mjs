// SPDX-License-Identifier: Apache-2.0
// What llama.cpp, as node-llama-cpp ships it, expects after each token of a text: rows of
// log-probabilities over the whole vocabulary. It runs on the CPU, with keys and values in f32 and
// without flash attention: the only arithmetic in which it can do what Muster does.
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

export function start_llama() {
    return getLlama({
        build: 'never',
        skipDownload: true,
        gpu: false,
        logLevel: LlamaLogLevel.disabled,
    });
}

/** For sequences of at most `length` tokens. */
export async function sequence_of(model, length) {
    const context = await model.createContext({
        // One more than is read: a full context drops its oldest tokens before it reads the last.
        contextSize: length + 1,
        threads: 1,
        flashAttention: false,
        experimentalKvCacheKeyType: 'F32',
        experimentalKvCacheValueType: 'F32',
    });
    return context.getSequence();
}

/** A Float64Array [vocab] of a map from ids to logits. */
function log_softmax(logits) {
    const row = new Float64Array(logits.size);
    let most = -Infinity;
    for (const [id, logit] of logits) {
        row[id] = logit;
        most = Math.max(most, logit);
    }
    let sum = 0;
    for (const logit of row) sum += Math.exp(logit - most);
    const total = most + Math.log(sum);
    return row.map((logit) => logit - total);
}

/** The row after each of `ids`, which are put behind what `sequence` holds. */
export async function read_rows(sequence, ids) {
    const results = await sequence.controlledEvaluate(
        ids.map((id) => [id, { generateNext: { logits: true } }]),
    );
    return results.map(({ next }) => log_softmax(next.logits));
}

/**
 * KL(p || q) in nats of two rows: the sum of p (x + e^-x - 1) with x = log p - log q, which is KL
 * for distributions that sum to 1, cannot be negative, and in which errors of their sums cancel.
 */
export function divergence(p, q) {
    let sum = 0;
    for (let id = 0; id < p.length; ++id) {
        const difference = p[id] - q[id];
        sum += Math.exp(p[id]) * (difference + Math.expm1(-difference));
    }
    return sum;
}
