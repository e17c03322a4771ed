// SPDX-License-Identifier: Apache-2.0
// Does every family of models, in every format, say here what it says in llama.cpp? Exits 1 when
// not, 2 when it cannot compare.
//
//     node families_oracle.mjs --make MAKE_CHECKPOINT --log-probabilities PROGRAM --muster PROGRAM
//                              --text FILE [--all] [--only PRESET]
//
// Random weights, distributions far from flat, router rows scaled so that the k-th and the next
// expert are further apart than rounding moves them (make_checkpoint's clear routes). A prompt of
// 200 tokens from FILE, then 64 tokens drawn from llama.cpp's own distribution under f32 weights;
// both engines are given those tokens.
//
// f32: log-probabilities agree within rounding. Other formats: with P the distribution under f32
// weights, our mean KL(P || Q) over all tokens is at most 1.1 times llama.cpp's, both when we
// multiply in integers with weights in panels, as programs do, and when we widen to f32. The KL must
// be far above the rounding of f32 in either engine, and far below what other experts would give.
//
// With 8-bit weights either KL is made by the engine's own rounding of activations, independently
// of the other's, and a few tokens make most of it: over seeds of the weights the ratio of one file
// spreads by 0.15. There the means are over several models. With 4-bit weights, whose error both
// engines share, it spreads by 0.01.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { divergence, read_rows, sequence_of, start_llama } from './llama_rows.mjs';

const PROMPT = 200;
const DRAWN = 64;
// Router logits this close may be moved past each other by rounding: from there on the engines may
// rightly differ, in the drawn part; the prompts are known to be free of such.
const TIE = 1e-4;
const MOST_RATIO = 1.1;
const SEEDS = { q8_0: 12 }; // 0.15 / sqrt(12) = 0.04; other formats: 1
// A sum of 256 to 512 terms differs by about sqrt(512) 2^-24 of itself, in 7 products of each of at
// most 26 layers independently, by 2e-5 of the logits, whose size is about 10; times 2.5 for the
// largest of some 10^5 values, of tokens above LEAST_P.
const MOST_LOG_P = 5e-4;
const LEAST_P = 1e-4;

const FAMILIES = [
    { preset: 'tiny-olmoe' },
    { preset: 'tiny-qwen2moe' },
    { preset: 'tiny-qwen3moe' },
    { preset: 'tiny-mixtral' },
    { preset: 'tiny-mixtral-linear', slow: true },
    { preset: 'tiny-llama' },
    { preset: 'tiny-granitemoe' },
    { preset: 'tiny-granitemoe-shared', slow: true },
    { preset: 'tiny-gpt-oss', usual: 'mxfp4_moe' },
    { preset: 'tiny-deepseek2' },
    { preset: 'tiny-deepseek2-old', slow: true },
    { preset: 'tiny-deepseek2-lite', slow: true },
];

function fail(message) {
    console.error(`families_oracle: ${message}`);
    process.exit(2);
}

/** Numbers in [0, 1), the same in every run. */
function random_numbers(seed) {
    let state = seed >>> 0;
    return () => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return state / 2 ** 32;
    };
}

function draw(row, uniform) {
    let left = uniform;
    for (let id = 0; id < row.length; ++id) {
        left -= Math.exp(row[id]);
        if (left < 0) return id;
    }
    return row.length - 1;
}

/** Rows of llama.cpp after every id of `ids`, and `more` ids that it draws behind them. */
async function llama_rows(llama, path, ids, more) {
    const model = await llama
        .loadModel({ modelPath: path, gpuLayers: 0 })
        .catch((error) => fail(`llama.cpp cannot load ${path}: ${error.message}`));
    const sequence = await sequence_of(model, ids.length + more);
    const rows = [];
    const all = [...ids];
    const uniform = random_numbers(1);
    const read = async (some) => rows.push(...(await read_rows(sequence, some)));
    await read(ids);
    for (let i = 0; i < more; ++i) {
        all.push(draw(rows.at(-1), uniform()));
        await read([all.at(-1)]);
    }
    await model.dispose();
    return { rows, ids: all };
}

function our_rows(program, path, ids, compute, folder) {
    const out = join(folder, 'out.f32');
    const said = JSON.parse(
        execFileSync(program, [path, 'model', out, compute], { input: JSON.stringify([ids]) }),
    );
    const bytes = readFileSync(out);
    const all = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    const rows = ids.map((_, t) => all.subarray(t * said.vocab, (t + 1) * said.vocab));
    const tie = said.gate_gaps.findIndex((gap) => gap !== null && gap < TIE);
    return { rows, tie: tie < 0 ? ids.length : tie };
}

function mean_kl(p_rows, q_rows) {
    const sum = p_rows.reduce((total, p, t) => total + divergence(p, q_rows[t]), 0);
    return sum / p_rows.length;
}

function largest_difference(p_rows, q_rows) {
    const least = Math.log(LEAST_P);
    let worst = 0;
    for (let t = 0; t < p_rows.length; ++t)
        for (let id = 0; id < p_rows[t].length; ++id) {
            const difference = Math.abs(p_rows[t][id] - q_rows[t][id]);
            // Not Math.max, which would let a NaN through as what it is not: too large.
            if (p_rows[t][id] > least && !(difference <= worst)) worst = difference;
        }
    return worst;
}

function options() {
    const { values } = parseArgs({
        options: {
            make: { type: 'string' },
            'log-probabilities': { type: 'string' },
            muster: { type: 'string' },
            text: { type: 'string' },
            all: { type: 'boolean', default: false },
            only: { type: 'string' },
        },
    });
    for (const name of ['make', 'log-probabilities', 'muster', 'text'])
        if (!values[name]) fail(`--${name} is missing`);
    return values;
}

process.on('uncaughtException', (error) => fail(error.message));
const args = options();
const program = args['log-probabilities'];
const llama = await start_llama();
const folder = mkdtempSync(join(tmpdir(), 'muster-families-'));
const number = (x) => x.toExponential(1);
let failures = 0;

function verdict(name, passes, text) {
    console.log(`${passes ? 'ok  ' : 'FAIL'} ${name.padEnd(34)} ${text}`);
    failures += !passes;
}

function make(preset, type, seed) {
    const path = join(folder, `${type}.gguf`);
    execFileSync(args.make, [preset, '-o', path, '--type', type, '--seed', String(seed)]);
    return path;
}

/** Tokens, and the rows of both engines after them, under f32 weights; the rows are compared. */
async function exact_rows(preset, seed) {
    const path = make(preset, 'f32', seed);
    const told = execFileSync(args.muster, ['tokenize', path, '-f', args.text, '--ids', '--json']);
    const prompt = JSON.parse(told).ids.slice(0, PROMPT);
    if (prompt.length < PROMPT) fail(`${args.text} has ${prompt.length} tokens only`);
    const { rows, ids } = await llama_rows(llama, path, prompt, DRAWN);
    const { rows: ours, tie } = our_rows(program, path, ids, 'f32', folder);
    const differs = (t) => !(largest_difference([rows[t]], [ours[t]]) <= MOST_LOG_P);
    const kept = ids.findIndex((_, t) => t >= Math.max(tie, PROMPT) && differs(t));
    const worst = largest_difference(kept < 0 ? rows : rows.slice(0, kept), ours);
    const telling = mean_kl(rows.slice(1), rows.slice(0, -1)) > 0.1;
    const name = `${preset} f32` + (seed > 1 ? `, seed ${seed}` : '');
    const left = kept < 0 ? '' : `, but for ${ids.length - kept} rows behind a tie`;
    const text = `|d log p| ${number(worst)}${left}`;
    verdict(name, worst <= MOST_LOG_P && telling, text);
    return { rows, ids, ours, floor: mean_kl(rows, ours) };
}

async function compare_family({ preset, usual = 'q4_k_m' }) {
    const types = args.all ? ['q8_0', 'q4_k', usual] : [usual];
    const sums = {}; // of the means over one model's tokens
    const add = (what, kl) => (sums[what] = (sums[what] ?? 0) + kl);
    const seeds = (type) => SEEDS[type] ?? 1;
    for (let seed = 1; seed <= Math.max(...types.map(seeds)); ++seed) {
        const exact = await exact_rows(preset, seed);
        for (const type of types.filter((each) => seed <= seeds(each))) {
            const file = make(preset, type, seed);
            const theirs = await llama_rows(llama, file, exact.ids, 0);
            add(type, mean_kl(exact.rows, theirs.rows));
            add(`${type} floor`, exact.floor);
            for (const compute of ['int8', 'f32']) {
                const { rows } = our_rows(program, file, exact.ids, compute, folder);
                add(`${type} in ${compute}`, mean_kl(exact.ours, rows));
            }
        }
    }
    for (const type of types)
        for (const compute of ['int8', 'f32']) {
            const name = `${type} in ${compute}`;
            const ratio = sums[name] / sums[type];
            const [kl, limit] = [sums[name], sums[type]].map((sum) => number(sum / seeds(type)));
            verdict(
                `${preset} ${name}`,
                ratio <= MOST_RATIO && sums[type] > 100 * sums[`${type} floor`],
                `KL ${kl}, llama.cpp's ${limit}, ratio ${ratio.toFixed(3)}`,
            );
        }
}

const wanted = args.only
    ? FAMILIES.filter(({ preset }) => preset === args.only)
    : FAMILIES.filter(({ slow }) => args.all || !slow);
if (wanted.length === 0) fail(`--only ${args.only}, expected one of the presets`);
try {
    for (const family of wanted) await compare_family(family);
} finally {
    rmSync(folder, { recursive: true });
}
if (failures > 0) console.log(`${failures} comparisons failed`);
process.exit(failures > 0 ? 1 : 0);
