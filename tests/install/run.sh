#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the engine into a fresh directory and builds examples/ against it, outside the tree, with find_package and with
# pkg-config; then runs the README's C++ snippet.
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cmake --install "$root/build/test" --prefix "$work/prefix" >/dev/null
cp -r "$root/examples/library" "$work/example"
/usr/bin/python3 "$root/tests/install/readme_snippet.py" "$root/README.md" >"$work/example/readme.cpp"
cmake -S "$work/example" -B "$work/build" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" >/dev/null
cmake --build "$work/build" >/dev/null
"$work/build/readme" "$root/models/default.gguf"
export PKG_CONFIG_PATH="$work/prefix/lib/pkgconfig:$(echo "$work"/prefix/lib/*/pkgconfig)"
# shellcheck disable=SC2046
g++ -std=c++20 "$work/example/readme.cpp" $(pkg-config --cflags --libs --static muster) -o "$work/readme-pc"
"$work/readme-pc" "$root/models/default.gguf" >/dev/null
[ -x "$work/prefix/bin/muster" ] && "$work/prefix/bin/muster" --version
