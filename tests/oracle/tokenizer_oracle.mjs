// SPDX-License-Identifier: Apache-2.0
// Do llama.cpp and Hugging Face's tokenizers give the ids that Muster gives? Exits 1 on any
// difference, 2 when it cannot compare.
//
//     npm install --no-save --ignore-scripts --omit=optional
//     node tokenizer_oracle.mjs MODEL.gguf TOKENIZER.json [--muster PROGRAM] [--texts FOLDER]
//
// The texts are those of tokenizer_texts.mjs and every file of FOLDER. Muster's ids come from
// `PROGRAM tokenize MODEL.gguf -f FILE --ids --json`, which prints {"ids": [...]}.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { Tokenizer } from '@huggingface/tokenizers';
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

import { texts } from './tokenizer_texts.mjs';

function fail(message) {
    console.error(message);
    process.exit(2);
}

function options() {
    try {
        const { values, positionals } = parseArgs({
            allowPositionals: true,
            options: { muster: { type: 'string', default: 'muster' }, texts: { type: 'string' } },
        });
        if (positionals.length !== 2) throw new Error('expected MODEL.gguf and TOKENIZER.json');
        return { ...values, model: positionals[0], json: positionals[1] };
    } catch (error) {
        return fail(`tokenizer_oracle: ${error.message}`);
    }
}

function muster_ids(program, model, file) {
    const output = execFileSync(program, ['tokenize', model, '-f', file, '--ids', '--json'], {
        maxBuffer: 1 << 30,
    });
    return JSON.parse(output).ids;
}

async function llama_cpp(path) {
    const llama = await getLlama({
        build: 'never',
        skipDownload: true,
        gpu: false,
        logLevel: LlamaLogLevel.disabled,
    });
    const model = await llama.loadModel({ modelPath: path, vocabOnly: true, gpuLayers: 0 });
    return (text) => model.tokenize(text, false);
}

/**
 * Hugging Face always reads the added tokens in text, where the others are told not to: without
 * them the ids are compared on every text, with them on texts that hold none.
 */
function hugging_face(json) {
    const bare = new Tokenizer({ ...json, added_tokens: [], post_processor: null }, {});
    const full = new Tokenizer(json, {});
    return {
        encode: (text) => bare.encode(text, { add_special_tokens: false }).ids,
        encode_full: (text) => full.encode(text, { add_special_tokens: false }).ids,
        decode: (ids) => bare.decode(ids, { clean_up_tokenization_spaces: false }),
    };
}

function difference(ours, theirs) {
    if (ours.length === theirs.length && ours.every((id, i) => id === theirs[i])) return null;
    let at = 0;
    while (at < ours.length && ours[at] === theirs[at]) ++at;
    const near = (ids) => `${ids.slice(Math.max(0, at - 3), at + 5).join(' ')} (${ids.length})`;
    return `first at ${at}: muster ${near(ours)}, there ${near(theirs)}`;
}

const arguments_ = options();
const json = JSON.parse(readFileSync(arguments_.json));
const added = new Set(json.added_tokens.map((token) => token.content));
const bos = json.post_processor?.special_tokens;
const bos_id = bos ? Object.values(bos)[0].ids[0] : null;
const pieces = Object.keys(json.model.vocab).filter(
    (piece) => !added.has(piece) && !/^<0x[0-9A-F]{2}>$/.test(piece),
);
const list = texts(pieces);
if (arguments_.texts) {
    for (const name of readdirSync(arguments_.texts)) {
        const bytes = readFileSync(join(arguments_.texts, name));
        list.push({ name, bytes, lookalike: true });
    }
}

const llama = await llama_cpp(arguments_.model).catch((error) =>
    fail(`llama.cpp cannot load ${arguments_.model}: ${error.message}`),
);
const hf = hugging_face(json);
const folder = mkdtempSync(join(tmpdir(), 'muster-oracle-'));
let tokens = 0;
let differences = 0;
const report = (name, who, what) => {
    if (what === null) return;
    ++differences;
    console.log(`${name}: ${who}: ${what}`);
};
try {
    for (const { name, bytes, lookalike } of list) {
        const file = join(folder, 'text');
        writeFileSync(file, bytes);
        let ids = muster_ids(arguments_.muster, arguments_.model, file);
        if (bos_id !== null && ids[0] === bos_id) ids = ids.slice(1);
        const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
        tokens += ids.length;
        report(name, 'llama.cpp', difference(ids, llama(text)));
        report(name, 'tokenizer.json', difference(ids, hf.encode(text)));
        if (!lookalike) {
            report(name, 'tokenizer.json with added tokens', difference(ids, hf.encode_full(text)));
        }
        // JavaScript's TextDecoder, which the decoder uses, drops a byte order mark.
        const visible = (s) => s.replaceAll('\ufeff', '');
        if (ids.length > 0 && visible(hf.decode(ids)) !== visible(text)) {
            report(name, 'decoder of tokenizer.json', 'another text');
        }
    }
} finally {
    rmSync(folder, { recursive: true });
}
console.log(`${list.length} texts, ${tokens} tokens, ${differences} differences`);
process.exit(differences === 0 ? 0 : 1);
