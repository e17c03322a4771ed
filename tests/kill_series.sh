#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# kill_series.sh N: a run that is killed with SIGKILL at N random moments and resumed each time must report the same losses
# as one that was never stopped (one thread), and every checkpoint it leaves must be whole.
set -euo pipefail
kills="${1:-20}"
root="$(cd "$(dirname "$0")/.." && pwd)"
bin="$root/build/test"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
steps=$((kills * 12 + 40))
cat >config.toml <<T
[model]
d_model = 64
layers = 2
heads = 2
context = 64
experts = 8
expert_width = 32
[data]
train = [$(printf '"%s",' "$root"/models/heldout/[a-m]*.txt)]
test = ["$root/models/heldout/novels.txt"]
vocabulary_size = 512
[training]
tokens = $((steps * 512))
batch_tokens = 512
threads = 1
[output]
log_every = 1
eval_every = 0
eval_tokens = 1000
checkpoint_every = 5
T
"$bin/muster-train" config.toml --output whole >/dev/null 2>whole.log
resume=""
for ((k = 1; k <= kills; k++)); do
    # shellcheck disable=SC2086
    "$bin/muster-train" config.toml --output parts $resume >/dev/null 2>parts.log &
    pid=$!
    sleep "$(awk -v s=$RANDOM 'BEGIN { print 0.6 + 2.2 * s / 32768 }')"
    kill -9 $pid 2>/dev/null || true
    wait $pid 2>/dev/null || true
    compgen -G 'parts/checkpoints/step-???????' >/dev/null && resume="--resume"
done
# shellcheck disable=SC2086
"$bin/muster-train" config.toml --output parts $resume >/dev/null 2>parts.log || { cat parts.log; exit 1; }
losses() { /usr/bin/python3 -c 'import json,sys; print([(l["step"], l["loss"]) for l in map(json.loads, open(sys.argv[1])) if l["kind"] == "train"])' "$1"; }
[ "$(losses whole/metrics.jsonl)" = "$(losses parts/metrics.jsonl)" ] || { echo "losses differ after kills"; exit 1; }
echo "$kills kills, $steps steps: the same losses"
