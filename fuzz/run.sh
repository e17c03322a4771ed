#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the libFuzzer targets and their seeds, then runs each for SECONDS (600), one after the other.
# usage: fuzz/run.sh [SECONDS [TARGET...]]     e.g. fuzz/run.sh 60 fuzz_gguf
# Exits with 1 when a target found something, and names the file that reproduces it. What was learnt stays
# in build/fuzz/corpus/ for the next run.
set -eu
cd "$(dirname "$0")/.."

seconds=${1:-600}
[ $# -gt 0 ] && shift
case $seconds in
    '' | *[!0-9]*) echo "fuzz/run.sh: SECONDS is '$seconds', expected a whole number" >&2; exit 2 ;;
esac

build=build/fuzz
cmake --preset fuzz >/dev/null
cmake --build "$build" --target fuzzers
programs=$build/fuzz
corpus=$build/corpus
findings=$build/findings
mkdir -p "$findings"
"$programs/make_seeds" "$corpus"

if [ $# -eq 0 ]; then
    for source in fuzz/fuzz_*.cpp; do
        set -- "$@" "$(basename "$source" .cpp)"
    done
fi

failed=""
for target in "$@"; do
    if [ ! -x "$programs/$target" ]; then
        echo "fuzz/run.sh: there is no target '$target'" >&2
        exit 2
    fi
    mkdir -p "$corpus/$target"
    log=$findings/$target.log
    echo "$target: $seconds s"
    if "$programs/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=16384 \
        -use_value_profile=1 -print_final_stats=1 -artifact_prefix="$findings/$target-" \
        "$corpus/$target" >"$log" 2>&1; then
        grep -E '^stat::(number_of_executed_units|average_exec_per_sec|peak_rss_mb)' "$log" || true
    else
        failed="$failed $target"
        tail -n 40 "$log"
        reproducer=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        echo "$target: FOUND something; reproduce with: $programs/$target ${reproducer:-(see $log)}"
    fi
done

if [ -n "$failed" ]; then
    echo "findings in:$failed" >&2
    exit 1
fi
