// SPDX-License-Identifier: Apache-2.0
// What the page shows, unpacked. Token counts and losses come as base64 (docs/file-formats.md).
const data = JSON.parse(document.getElementById('data').textContent);

function bytesOf(base64) {
  const text = atob(base64);
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; ++i) out[i] = text.charCodeAt(i);
  return out;
}

/// Unsigned integers of 1, 2, 4, 8, 16 or 32 bits, the first in the lowest bits; low is added.
function unpack(packed, count) {
  if (!packed) return null;
  if (packed.constant !== undefined) return new Uint32Array(count).fill(packed.constant);
  const bytes = bytesOf(packed.data),
    out = new Uint32Array(count),
    bits = packed.bits,
    low = packed.low || 0;
  if (bits >= 8) {
    const width = bits / 8;
    for (let i = 0; i < count; ++i) {
      let value = 0;
      for (let b = width - 1; b >= 0; --b) value = value * 256 + bytes[i * width + b];
      out[i] = low + value;
    }
    return out;
  }
  const per = 8 / bits,
    mask = (1 << bits) - 1;
  for (let i = 0; i < count; ++i) out[i] = low + ((bytes[Math.floor(i / per)] >> ((i % per) * bits)) & mask);
  return out;
}

const tokenCount = data.tokens.count;
const tokenText = unpack(data.tokens.text, tokenCount);
const tokenLoss = unpack(data.tokens.loss, tokenCount); // thousandths of a nat
const tokenExperts = data.tokens.layers.map(layer => unpack(layer, tokenCount)); // [layer][token]; dense: null
const moeLayers = data.layers.map((layer, l) => (layer ? l : -1)).filter(l => l >= 0);

const meanExperts = new Float32Array(tokenCount);
for (const l of moeLayers) {
  const counts = tokenExperts[l];
  for (let t = 0; t < tokenCount; ++t) meanExperts[t] += counts[t];
}
for (let t = 0; t < tokenCount; ++t) meanExperts[t] /= Math.max(1, moeLayers.length);

function range(values) {
  let low = Infinity,
    high = -Infinity;
  for (const v of values) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  return [low, high];
}

/// Three significant digits, no more decimals than they need.
function number(value, digits = 3) {
  if (value === null || !isFinite(value)) return '–';
  if (value === 0) return '0';
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value))));
  return value.toLocaleString('en-US', {
    maximumFractionDigits: Math.min(6, decimals),
    minimumFractionDigits: 0,
  });
}
const whole = value => value.toLocaleString('en-US');
const percent = value => number(100 * value) + ' %';
const several = (n, noun) => whole(n) + ' ' + noun + (n === 1 ? '' : 's');
