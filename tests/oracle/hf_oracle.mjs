// SPDX-License-Identifier: Apache-2.0
// Does a Hugging Face directory hold the model that a GGUF file of the same run (both f32) holds?
// Exits 1 when a weight, a name, a shape or a setting differs.
//
//     node hf_oracle.mjs MODEL.gguf DIRECTORY
//
// The file is read by node-llama-cpp, the directory by its formats' definitions: config.json's keys
// and the tensor names are those of transformers' OlmoeForCausalLM, weights are
// [length of the header, JSON header, data] (safetensors).
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';

import { readGgufFileInfo } from 'node-llama-cpp';

const [ggufPath, directory] = process.argv.slice(2);
const gguf = await readGgufFileInfo(ggufPath, { readTensorInfo: true, logWarnings: false });
const config = JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8'));

const weights = readFileSync(join(directory, 'model.safetensors'));
const headerBytes = Number(weights.readBigUInt64LE(0));
const header = JSON.parse(weights.toString('utf8', 8, 8 + headerBytes));
const file = openSync(ggufPath, 'r');

function ggufTensor(name) {
    const info = gguf.fullTensorInfo.find((t) => t.name === name);
    assert.ok(info, `${ggufPath} lacks ${name}`);
    const shape = info.dimensions.map(Number).reverse(); // GGUF: innermost first
    const bytes = Buffer.alloc(4 * shape.reduce((a, b) => a * b, 1));
    readSync(file, bytes, 0, bytes.length, Number(info.fileOffset));
    return { shape, bytes };
}

const used = new Set();
function same(hfName, { shape, bytes }) {
    const entry = header[hfName];
    assert.ok(entry, `model.safetensors lacks ${hfName}`);
    assert.deepEqual(entry.shape, shape, hfName);
    assert.equal(entry.dtype, 'F32', hfName);
    const [begin, end] = entry.data_offsets.map((x) => 8 + headerBytes + x);
    assert.ok(weights.subarray(begin, end).equals(bytes), `${hfName} has other values`);
    used.add(hfName);
}

const metadata = gguf.metadata.olmoe;
const settings = {
    hidden_size: metadata.embedding_length,
    num_hidden_layers: metadata.block_count,
    num_attention_heads: metadata.attention.head_count,
    num_key_value_heads: metadata.attention.head_count_kv,
    num_experts: metadata.expert_count,
    num_experts_per_tok: metadata.expert_used_count,
    intermediate_size: metadata.expert_feed_forward_length ?? metadata.feed_forward_length,
    max_position_embeddings: metadata.context_length,
    rope_theta: metadata.rope.freq_base,
    vocab_size: gguf.metadata.tokenizer.ggml.tokens.length,
    bos_token_id: gguf.metadata.tokenizer.ggml.bos_token_id,
    eos_token_id: gguf.metadata.tokenizer.ggml.eos_token_id,
};
for (const [key, value] of Object.entries(settings)) assert.equal(config[key], value, key);
assert.equal(Math.fround(config.rms_norm_eps), Math.fround(metadata.attention.layer_norm_rms_epsilon));
assert.deepEqual(config.architectures, ['OlmoeForCausalLM']);
assert.equal(config.norm_topk_prob, false); // raw softmax weights, as GGUF's olmoe has them

same('model.embed_tokens.weight', ggufTensor('token_embd.weight'));
same('model.norm.weight', ggufTensor('output_norm.weight'));
// A tied head is written out in GGUF, whose olmoe knows no other.
if (config.tie_word_embeddings) {
    assert.ok(ggufTensor('output.weight').bytes.equals(ggufTensor('token_embd.weight').bytes));
} else {
    same('lm_head.weight', ggufTensor('output.weight'));
}
const layerNames = {
    'input_layernorm': 'attn_norm',
    'post_attention_layernorm': 'ffn_norm',
    'self_attn.q_proj': 'attn_q',
    'self_attn.k_proj': 'attn_k',
    'self_attn.v_proj': 'attn_v',
    'self_attn.o_proj': 'attn_output',
    'self_attn.q_norm': 'attn_q_norm',
    'self_attn.k_norm': 'attn_k_norm',
    'mlp.gate': 'ffn_gate_inp',
};
for (let l = 0; l < config.num_hidden_layers; ++l) {
    for (const [hf, ggml] of Object.entries(layerNames)) {
        same(`model.layers.${l}.${hf}.weight`, ggufTensor(`blk.${l}.${ggml}.weight`));
    }
    for (const part of ['gate', 'up', 'down']) {
        const { shape, bytes } = ggufTensor(`blk.${l}.ffn_${part}_exps.weight`);
        const [experts, ...one] = shape;
        const size = bytes.length / experts;
        for (let e = 0; e < experts; ++e) {
            same(`model.layers.${l}.mlp.experts.${e}.${part}_proj.weight`,
                 { shape: one, bytes: bytes.subarray(e * size, (e + 1) * size) });
        }
    }
}
closeSync(file);
const names = Object.keys(header).filter((name) => name !== '__metadata__');
assert.deepEqual(names.filter((name) => !used.has(name)), [], 'tensors that OLMoE does not have');
console.log(`Hugging Face directory: ${names.length} tensors and ${Object.keys(settings).length + 3} settings equal to the GGUF file's`);
