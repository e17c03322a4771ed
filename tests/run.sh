#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The fast tests and checks, after `make everything`. Stops at the first failure.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step "format and include directions"
tools/check.sh --fast
step "corpus tools"
/usr/bin/python3 -m unittest discover -q -s tools/corpus -p 'test_*.py'
step "tables of the recall of facts"
/usr/bin/python3 -m unittest discover -q -s tools -p 'test_*.py'
step "unit tests"
ctest --test-dir build/test --output-on-failure --progress -j "$(nproc)"
step "installed package"
tests/install/run.sh
step "training on a small corpus, resumed, exported and run"
tests/end_to_end.sh
step "oracles"
tests/oracle/run.sh
printf '\nall fast tests passed\n'
