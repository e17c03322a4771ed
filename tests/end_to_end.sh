#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The main job on real text: corpus -> vocabulary -> training that must learn -> export -> evaluation and generation.
# Under two minutes of training on two cores.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
bin="$root/build/test"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"

/usr/bin/python3 "$root/tools/corpus/build_corpus.py" --mix small --out corpus 2>corpus.log || { cat corpus.log; exit 1; }
cat >small.toml <<'T'
[model]
name = "small"
d_model = 128
layers = 3
heads = 2
context = 128
experts = 8
expert_width = 96

[routing]
policy = "top-p:0.4"

[data]
train = ["corpus/train.jsonl"]
test = ["corpus/test.jsonl"]
vocabulary_size = 1024
vocabulary_sample = 2000000

[training]
tokens = 800_000
batch_tokens = 1024
lr = 5e-3
warmup = 50

[output]
directory = "run"
eval_every = 0
eval_tokens = 20_000
checkpoint_every = 200
T
"$bin/muster-train" small.toml >checkpoint.txt 2>train.log || { tail -5 train.log; exit 1; }
/usr/bin/python3 - <<'P'
import collections, json, math, struct
# Unigram entropy of the held-out tokens: what a model that knows only frequencies reaches at best.
data = open("run/test.tokens", "rb").read()
vocabulary, domains, documents, tokens = struct.unpack_from("<IIQQ", data, 8)
ids = struct.unpack_from(f"<{tokens}H", data, len(data) - 2 * tokens)
counts = collections.Counter(ids)
entropy = -sum(n / tokens * math.log(n / tokens) for n in counts.values())
lines = [json.loads(line) for line in open("run/metrics.jsonl")]
loss = [l["loss"] for l in lines if l["kind"] == "eval"][-1]
seconds = lines[-1]["time"] - lines[0]["time"]
print(f"held-out loss {loss:.3f}, unigram entropy {entropy:.3f}, {seconds:.0f} s")
assert loss < 0.8 * entropy, "the model did not learn"
P
"$bin/muster" export "$(cat checkpoint.txt)" -o small.gguf --type q8_0 >/dev/null
"$bin/muster" inspect small.gguf --json | /usr/bin/python3 -c 'import json,sys; json.load(sys.stdin)'
"$bin/muster" eval small.gguf "$root/models/heldout/novels.txt" --routing model --routing top-k:1 --routing top-k:2
echo "It was" | "$bin/muster" run small.gguf -n 20 --seed 1
printf '\n'
# A limit on the size of files is an error like a full disk, and leaves nothing behind.
for output in limited.gguf limited; do
    if (ulimit -f 100; exec "$bin/muster" convert small.gguf "$output") 2>limit.log; then exit 1; fi
    grep -q "^muster: \[$output.*cannot write" limit.log
    [ -z "$(find . -name 'limited*')" ]
done
