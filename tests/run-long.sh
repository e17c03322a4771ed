#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The long tests: everything of run.sh, then static analysis, sanitizers, the kill series and the fuzzers.
# FUZZ_SECONDS (default 600) is spent on each fuzz target, KILLS (default 20) is the length of the kill series.
set -euo pipefail
cd "$(dirname "$0")/.."
tests/run.sh
step() { printf '\n== %s\n' "$*"; }
step "static analysis"
tools/check.sh
for preset in asan tsan; do
    step "unit tests under $preset"
    cmake --preset "$preset" >/dev/null
    cmake --build --preset "$preset"
    ctest --test-dir "build/$preset" --output-on-failure -j "$(nproc)"
done
step "every family and format beside llama.cpp"
tests/oracle/run.sh build/test --all
step "kill series"
tests/kill_series.sh "${KILLS:-20}"
step "fuzzers"
fuzz/run.sh "${FUZZ_SECONDS:-600}"
printf '\nall long tests passed\n'
