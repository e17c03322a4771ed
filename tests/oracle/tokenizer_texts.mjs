// SPDX-License-Identifier: Apache-2.0
// The texts on which tokenizers are compared: [{name, bytes, lookalike}], the same on every run.
// None holds U+2581: Muster gives its bytes where SentencePiece and its kin read a space.

/** Uniform numbers in [0, 1): mulberry32. */
export function random(seed) {
    return () => {
        seed = (seed + 0x6d2b79f5) | 0;
        let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
        t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
        return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
}

const kSpace = '\u2581';

const kPlain = {
    empty: '',
    space: ' ',
    word: 'word',
    prose:
        'It was a quiet morning, and the harbour lay under mist. "Shall we go?" she asked; he ' +
        "didn't answer at once.\n\nThe ferry, 48 metres long, left at 9:05 — late again.\n",
    code:
        'template <typename T>\nstd::vector<s> f(const T& x) {\n    if (x->y != 0x1F) {\n' +
        '\treturn {x["k"], \'\\0\'};  // TODO: 3.14e-10\n    }\n}\n\n' +
        'def g(a, *b, **c):\n    return [i**2 for i in a if i % 2 == 0]\n',
    markup: '<p class="s">1 &lt; 2</p>\n<s>struck</s><br/>\n```json\n{"a": [1, 2.50, null]}\n```\n',
    english: 'All human beings are born free and equal in dignity and rights.',
    german: 'Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.',
    french: 'Dès Noël, où un zéphyr haï me vêt de glaçons würmiens, je dîne d’exquis rôtis.',
    turkish: 'Pijamalı hasta yağız şoföre çabucak güvendi. İI ıi',
    vietnamese: 'Chào buổi sáng, hôm nay trời đẹp quá.',
    russian: 'Съешь же ещё этих мягких французских булок, да выпей чаю.',
    greek: 'Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.',
    arabic: 'نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر',
    hindi: 'ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश करने वाले।',
    chinese: '天地玄黃,宇宙洪荒。日月盈昃,辰宿列張。',
    japanese: 'いろはにほへと ちりぬるを。カタカナと漢字、半角カナ。',
    korean: '키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.',
    thai: 'เป็นมนุษย์สุดประเสริฐเลิศคุณค่า',
    emoji: '😀👍🏽 👩‍👩‍👧‍👦🏳️‍🌈 🇩🇪🇫🇷 1️⃣ ❤️\u200d🔥 ©️',
    combining: 'e\u0301 é Å A\u030a \u0308 ñ n\u0303 z\u0351\u036b\u0343\u036a',
    invisible: '\ufeffbom\u200b\u200c\u200d\u2060\u00ad\u202e\u2066x\u2069 \u00a0\u2003\u3000.',
    fffd: 'a\ufffdb \ufffd\ufffd',
    astral: '𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𓀀 \u{10ffff}\u{e0001}',
};

const kLookalikes = {
    control: '<s>text</s> <unk> <s></s><s> </s>\n<s>x<s>',
    bytes: '<0x0A><0x41> <0xE2><0x96><0x81>',
    others: '<|endoftext|> <|im_start|>user\n[INST] <<SYS>> <pad> <mask>',
    pieces: '< s > <s > </ s> </s >',
};

function whitespace(next) {
    const kinds = [' ', '\n', '\t', '\r', '\r\n', '  ', '        ', 'a', '.'];
    let text = ' \n\n\n   \t\t\t';
    for (let i = 0; i < 3000; ++i) {
        text += kinds[Math.floor(next() * kinds.length)].repeat(1 + Math.floor(next() * 9));
    }
    return text;
}

function code_points(next, count) {
    const limits = [0x80, 0x800, 0x10000, 0x110000];
    let text = '';
    for (let i = 0; i < count; ++i) {
        const c = Math.floor(next() * limits[Math.floor(next() * limits.length)]);
        if ((c < 0xd800 || c > 0xdfff) && c !== 0x2581) text += String.fromCodePoint(c);
    }
    return text;
}

/** Pieces of the vocabulary one after the other: merges across their borders, ties, long runs. */
function from_pieces(next, pieces, count) {
    let text = '';
    for (let i = 0; i < count; ++i) {
        text += pieces[Math.floor(next() * next() * pieces.length)].replaceAll(kSpace, ' ');
    }
    return text;
}

/** @param pieces the normal pieces of the vocabulary, most frequent first */
export function texts(pieces) {
    const next = random(1);
    const list = [];
    const add = (name, bytes, lookalike = false) => list.push({ name, bytes, lookalike });
    for (const [name, text] of Object.entries(kPlain)) {
        add(name, Buffer.from(text), /<s>|<\/s>/.test(text));
    }
    for (const [name, text] of Object.entries(kLookalikes)) {
        add(`lookalike_${name}`, Buffer.from(text), true);
    }
    const controls = Array.from({ length: 0xa0 }, (_, i) => String.fromCodePoint(i)).join('x');
    add('controls', Buffer.from(controls));
    add('nul', Buffer.from('a\0b\0\0c'));
    add('whitespace', Buffer.from(whitespace(next)));
    add('everything', Buffer.from(Object.values(kPlain).join('\n')), true);
    add('repeated', Buffer.from('a'.repeat(5000) + ' '.repeat(5000) + '='.repeat(5000)));
    for (let i = 0; i < 8; ++i) {
        const bytes = Buffer.from(Array.from({ length: 2000 }, () => Math.floor(next() * 256)));
        add(`random_bytes_${i}`, bytes);
        add(`code_points_${i}`, Buffer.from(code_points(next, 2000)));
        add(`pieces_${i}`, Buffer.from(from_pieces(next, pieces, 2000)), true);
    }
    return list;
}
