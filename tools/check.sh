#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check.sh [--fast]: formatting and include directions; without --fast also clang-tidy over every source.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t sources < <(git ls-files '*.h' '*.cpp')
clang-format-16 --dry-run --Werror "${sources[@]}"
/usr/bin/python3 tools/check_includes.py
[ "${1:-}" = "--fast" ] && exit 0
mapfile -t units < <(git ls-files 'muster/*.cpp' | grep -v '_test\.cpp$')
printf '%s\n' "${units[@]}" | xargs -P "$(nproc)" -n 4 clang-tidy-16 --quiet -p build/test
