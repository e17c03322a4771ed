// SPDX-License-Identifier: Apache-2.0
// Does llama.cpp expect what Muster expects after every token of a text? Exits 1 when the
// distributions differ by more than rounding, 2 when it cannot compare.
//
//     node logits_oracle.mjs MODEL.gguf FILE... [--muster PROGRAM] [--log-probabilities PROGRAM]
//                            [--tokens N]
//
// Both read the first N tokens (default: the context) of every file, as Muster cuts it, under
// `top-k:expert_used_count`, the count taken from the file by llama.cpp's side.
//
// The control: Muster with another number of experts must be several times as far off, else the
// comparison would prove nothing with this model.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';

import { divergence, read_rows, sequence_of, start_llama } from './llama_rows.mjs';

const LEAST_P = 1e-4; // tokens below it say little, and their rounding errors are large

// What rounding explains, by general.file_type. `log_p`: the largest |difference of log p| of a
// row, over the tokens above LEAST_P; `share`: of the rows must keep to it; `tie`: router logits
// this near each other may be ordered either way, which changes this row and those that attend to
// it; `kl`: the largest mean KL.
//
// f32: only the order of sums differs. A sum of d terms differs by about sqrt(d) 2^-24 of itself,
// in 7 L + 1 products in a row independently: with d = 512 and L = 16, by 1.5e-5 of the logits,
// whose size is about 10; times 3. Mean KL is half the square.
// f16, q8_0: llama.cpp rounds the activations before every product, f16 to 2^-12 of themselves,
// q8_0 to 1 / 127 of the largest of 32 (2.2 / (127 sqrt(12)) = 5e-3 of their root mean square). A
// logit's error is that times their deviation, about 3; the largest of some hundred tokens is
// thrice as far off; times 2. That much rounding changes routes often: half of the rows must keep
// to it, and other routes, rare as they are, make nearly all of the mean KL.
const TOLERANCES = new Map([
    [0, { name: 'f32', log_p: 5e-4, share: 1, tie: 1e-4, kl: 1.25e-7 }],
    [1, { name: 'f16', log_p: 5e-3, share: 0.5, tie: 0, kl: 1e-4 }],
    [7, { name: 'q8_0', log_p: 0.1, share: 0.5, tie: 0, kl: 1e-3 }],
]);
const MOST_EXCUSED = 0.25; // of the rows: more of them behind ties would leave too little compared
const CONTROL_RATIO = 3; // of the medians of |difference of log p|

function fail(message) {
    console.error(`logits_oracle: ${message}`);
    process.exit(2);
}

function options() {
    try {
        const { values, positionals } = parseArgs({
            allowPositionals: true,
            options: {
                muster: { type: 'string', default: 'muster' },
                'log-probabilities': { type: 'string', default: 'log_probabilities' },
                tokens: { type: 'string', default: '0' },
            },
        });
        if (positionals.length < 2) throw new Error('expected MODEL.gguf and files');
        return {
            model: positionals[0],
            files: positionals.slice(1),
            muster: values.muster,
            program: values['log-probabilities'],
            tokens: Number(values.tokens) || Infinity,
        };
    } catch (error) {
        return fail(error.message);
    }
}

function muster_ids(program, model, file) {
    const output = execFileSync(program, ['tokenize', model, '-f', file, '--ids', '--json']);
    return JSON.parse(output).ids;
}

/** {vocab, gate_gaps, rows}: rows(t) is a Float32Array [vocab]. */
function muster_log_probabilities(program, model, policy, sequences) {
    const folder = mkdtempSync(join(tmpdir(), 'muster-oracle-'));
    try {
        const out = join(folder, 'out.f32');
        const input = JSON.stringify(sequences);
        const said = JSON.parse(
            execFileSync(program, [model, policy, out], { input, maxBuffer: 1 << 28 }),
        );
        const bytes = readFileSync(out);
        const all = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
        const row = (t) => all.subarray(t * said.vocab, (t + 1) * said.vocab);
        return { ...said, gate_gaps: said.gate_gaps.map((gap) => gap ?? Infinity), row };
    } finally {
        rmSync(folder, { recursive: true });
    }
}

/** One Float64Array [vocab] for every token of every sequence. */
async function llama_log_probabilities(model, sequences, vocab) {
    const sequence = await sequence_of(model, Math.max(...sequences.map((ids) => ids.length)));
    const rows = [];
    for (const ids of sequences) {
        await sequence.clearHistory();
        rows.push(...(await read_rows(sequence, ids)));
    }
    if (rows.some((row) => row.length !== vocab)) fail(`llama.cpp gives ${rows[0].length} logits`);
    return rows;
}

/** KL(ours || theirs), and the largest |difference of log p| over tokens above LEAST_P. */
function distance(ours, theirs) {
    const least = Math.log(LEAST_P);
    let log_p = 0;
    for (let id = 0; id < ours.length; ++id)
        if (Math.max(ours[id], theirs[id]) > least)
            log_p = Math.max(log_p, Math.abs(ours[id] - theirs[id]));
    return { kl: divergence(ours, theirs), log_p };
}

/** Distances of all rows and what they come to; a row is excused behind a tie of its sequence. */
function compare(ours, theirs, sequences, tolerance) {
    const rows = [];
    let excused = 0;
    let beyond = 0;
    let kl = 0;
    for (const ids of sequences) {
        let tie = false;
        for (let i = 0; i < ids.length; ++i) {
            const t = rows.length;
            const row = distance(ours.row(t), theirs[t]);
            rows.push(row);
            tie ||= ours.gate_gaps[t] < tolerance.tie;
            const keeps = row.log_p <= tolerance.log_p; // NaN does not
            if (!keeps) tie ? ++excused : ++beyond;
            if (keeps || !tie) kl += row.kl;
        }
    }
    kl /= Math.max(1, rows.length - excused);
    const log_ps = rows.map((row) => row.log_p).sort((x, y) => x - y);
    return {
        excused,
        beyond,
        kl,
        largest_kl: Math.max(...rows.map((row) => row.kl)),
        median: log_ps[log_ps.length >> 1],
        largest: log_ps[log_ps.length - 1],
        passes:
            beyond <= (1 - tolerance.share) * rows.length &&
            excused <= MOST_EXCUSED * rows.length &&
            kl <= tolerance.kl,
    };
}

/** Mean of -log p of the tokens that do follow. */
function surprise(theirs, sequences) {
    let sum = 0;
    let count = 0;
    let first = 0;
    for (const ids of sequences) {
        for (let i = 1; i < ids.length; ++i, ++count) sum -= theirs[first + i - 1][ids[i]];
        first += ids.length;
    }
    return sum / count;
}

function describe(result) {
    const number = (x) => x.toExponential(1);
    return (
        `KL mean ${number(result.kl)}, max ${number(result.largest_kl)}; ` +
        `|d log p| median ${number(result.median)}, max ${number(result.largest)}; ` +
        `${result.beyond} rows beyond tolerance, ${result.excused} more behind ties`
    );
}

process.on('uncaughtException', (error) => fail(error.message));
const args = options();
const llama = await start_llama();
const model = await llama
    .loadModel({ modelPath: args.model, gpuLayers: 0 })
    .catch((error) => fail(`llama.cpp cannot load ${args.model}: ${error.message}`));
const metadata = model.fileInfo.metadata;
const shape = metadata[metadata.general.architecture];
const used = shape.expert_used_count;
const other = used > 1 ? used - 1 : 2;
const tolerance = TOLERANCES.get(metadata.general.file_type);
if (!used) fail(`${args.model} does not say how many experts a token uses`);
if (!tolerance) fail(`no tolerance for file type ${metadata.general.file_type}`);

const length = Math.min(args.tokens, shape.context_length);
const sequences = args.files.map((file) =>
    muster_ids(args.muster, args.model, file).slice(0, length),
);
const muster = (k) =>
    muster_log_probabilities(args.program, args.model, `top-k:${k}`, sequences);
const ours = muster(used);
const theirs = await llama_log_probabilities(model, sequences, ours.vocab);
const result = compare(ours, theirs, sequences, tolerance);
const control = compare(muster(other), theirs, sequences, tolerance);

const nats = `${surprise(theirs, sequences).toFixed(2)} of ${Math.log(ours.vocab).toFixed(2)} nats`;
console.log(
    `${basename(args.model)} (${tolerance.name}): ${sequences.length} texts, ` +
        `${theirs.length} tokens, mean surprise ${nats}`,
);
console.log(`  llama.cpp and top-k:${used}: ${describe(result)}`);
console.log(`  control, top-k:${other}: ${describe(control)}`);
if (!result.passes) {
    const { log_p, share, kl } = tolerance;
    console.log(`  beyond tolerance: |d log p| ${log_p} in ${share} of the rows, mean KL ${kl}`);
}
const telling = control.median > CONTROL_RATIO * result.median;
if (!telling) console.log(`  the control is not ${CONTROL_RATIO} times as far off`);
process.exit(result.passes && telling ? 0 : 1);
