#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check.sh [--fast]: formatting and include directions; without --fast also clang-tidy over every source.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t sources < <(git ls-files '*.h' '*.cpp')
clang-format-16 --dry-run --Werror "${sources[@]}"
/usr/bin/python3 tools/check_includes.py
[ "${1:-}" = "--fast" ] && exit 0
# clang 16 cannot compile LibTorch 1.13's headers as C++20: units that include them have g++'s warnings alone.
compilable() {
    while read -r unit; do
        case $unit in muster/train/*)
            case $(g++ -std=c++20 -I. -M -MG "$unit" 2>/dev/null || true) in *torch/* | *ATen/*) continue ;; esac ;;
        esac
        echo "$unit"
    done
}
mapfile -t units < <(git ls-files 'muster/*.cpp' | grep -v '_test\.cpp$' | compilable)
printf '%s\n' "${units[@]}" | xargs -P "$(nproc)" -n 4 clang-tidy-16 --quiet -p build/test
