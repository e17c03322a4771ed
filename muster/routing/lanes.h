// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

/// Four floats at a time in plain arithmetic, through the vector extension that GCC and Clang
/// share. Every operation is the IEEE one in each lane, and routing/ is compiled once, for the
/// baseline instruction set: scores have the same bits on every CPU, so a selection never depends
/// on one. (Compile without -ffast-math and with -ffp-contract=off where the baseline has fused
/// multiply-add.) Internal to routing/.
namespace muster::lanes {

constexpr int kLanes = 4;
using Lanes __attribute__((vector_size(16))) = float;
using LaneBits __attribute__((vector_size(16))) = int32_t;
using Pair __attribute__((vector_size(8))) = float;
using WidePair __attribute__((vector_size(16))) = double;

inline Lanes splat(float x) noexcept { return Lanes{x, x, x, x}; }

inline Lanes load(const float* p) noexcept {
    Lanes v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

/// The first `count` lanes from p, the others `fill`.
inline Lanes load(const float* p, int count, float fill) noexcept {
    Lanes v = splat(fill);
    std::memcpy(&v, p, count * sizeof(float));
    return v;
}

inline void store(float* p, Lanes v, int count = kLanes) noexcept {
    std::memcpy(p, &v, count * sizeof(float));
}

inline WidePair widen(const float* p) noexcept {
    Pair v;
    std::memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, WidePair);
}

/// Whether any lane of a comparison's result is set.
inline bool any(LaneBits mask) noexcept {
    uint64_t halves[2];
    std::memcpy(halves, &mask, sizeof mask);
    return (halves[0] | halves[1]) != 0;
}

/// e^x for x <= 0; 0 below -87, where the result would leave the normal floats. Relative error
/// below 2^-22. x = n ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor polynomial of degree 7
/// (remainder r^8 / 8! < 6e-9); 2^n by its exponent bits. ln 2 is split into 355/512, whose
/// products with n are exact, and the rest.
inline Lanes exp_nonpositive(Lanes x) noexcept {
    constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    const LaneBits tiny = x < -87.0f;
    x = tiny ? splat(-87.0f) : x;
    const Lanes shifted = x * 1.44269504088896341f + kRound;
    const Lanes n = shifted - kRound;
    const Lanes r = (x - n * 0.693359375f) - n * -2.12194440054690583e-4f;
    Lanes p = r * (1.0f / 5040) + (1.0f / 720);
    p = p * r + (1.0f / 120);
    p = p * r + (1.0f / 24);
    p = p * r + (1.0f / 6);
    p = p * r + 0.5f;
    p = p * (r * r) + r + 1.0f;
    const Lanes power = (Lanes)(((LaneBits)shifted << 23) + 0x3f800000);
    return tiny ? Lanes{} : p * power;
}

/// log(1 + u) for u in [0, 1]: 2 atanh(z), z = u / (2 + u) <= 1/3, by its series up to z^15
/// (remainder below 2 z^17 / 17 < 1e-9).
inline Lanes log1p_unit(Lanes u) noexcept {
    const Lanes z = u / (u + 2.0f);
    const Lanes w = z * z;
    Lanes s = w * (1.0f / 15) + (1.0f / 13);
    s = s * w + (1.0f / 11);
    s = s * w + (1.0f / 9);
    s = s * w + (1.0f / 7);
    s = s * w + 0.2f;
    s = s * w + (1.0f / 3);
    return (z + z) * (s * w + 1.0f);
}

}  // namespace muster::lanes
