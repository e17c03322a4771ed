#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# atlas_picture.sh PROGRAM OUTPUT.png: docs/images/atlas.png, parts of the default model's atlas as Chromium shows them.
set -euo pipefail
program="$(realpath "$1")" output="$(realpath "$2")"
root="$(cd "$(dirname "$0")/.." && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$program" atlas default "$root"/models/heldout/*.txt -o "$work/atlas.html" >/dev/null
cat >>"$work/atlas.html" <<'H'
<style>section:not(#reading):not(#domains), nav, header .note, footer, details, #domains > figure, #domains > p.note { display: none }
section { margin-top: 1.5rem } body { padding: 1.5rem }</style>
<script>
const press = (at, ...keys) => keys.forEach(key => at.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true})));
press(document.querySelector('.tokens'), ...Array(31).fill('ArrowRight'));
press([...document.querySelectorAll('#domains svg')].pop(), ...Array(2).fill('ArrowDown'));
</script>
H
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/profile" --window-size=1160,1545 \
    --screenshot="$output" "file://$work/atlas.html" 2>/dev/null
