// SPDX-License-Identifier: Apache-2.0
// How many tokens a second of a prompt llama.cpp reads, as node-llama-cpp ships it prebuilt:
//
//     node llama_cpp_prompt.mjs MODEL.gguf [--tokens 512] [--threads 2] [--runs 3]
//
// Prints what llama-bench prints as JSON, for tools/measure_engine.py. Run it where node-llama-cpp
// is installed (build/test/oracle, after tests/oracle/run.sh). The JavaScript around it costs nothing
// that shows for a prompt, but a quarter of the time for single tokens, which are not measured.
import { parseArgs } from 'node:util';

import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
        tokens: { type: 'string', default: '512' },
        threads: { type: 'string', default: '2' },
        runs: { type: 'string', default: '3' },
    },
});
const [tokens, threads, runs] = [values.tokens, values.threads, values.runs].map(Number);
const llama = await getLlama({
    build: 'never',
    skipDownload: true,
    gpu: false,
    maxThreads: threads,
    logLevel: LlamaLogLevel.disabled,
});
const model = await llama.loadModel({ modelPath: positionals[0], gpuLayers: 0 });
const context = await model.createContext({
    contextSize: tokens + 8,
    batchSize: tokens,
    threads,
    flashAttention: true,
});
const sequence = context.getSequence();
const vocab = model.fileInsights.ggufFileInfo.metadata.tokenizer.ggml.tokens.length;
const rates = [];
for (let run = -1; run < runs; ++run) {
    await sequence.clearHistory();
    const ids = Array.from({ length: tokens }, () => Math.floor(Math.random() * vocab));
    const start = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(ids);
    if (run >= 0) rates.push((1000 * tokens) / (performance.now() - start));
}
const mean = rates.reduce((a, b) => a + b, 0) / rates.length;
console.log(JSON.stringify([{ test: `pp${tokens}`, avg_ts: mean, samples_ts: rates }]));
await model.dispose();
process.exit(0);
