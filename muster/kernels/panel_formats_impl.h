// SPDX-License-Identifier: Apache-2.0
// How the block formats unpack from a panel's chunk (quant/panels.h), written once over Vec and
// IVec; included only by panel_product_impl.h. The formats' definition is GGML's (ggml-common.h,
// ggml-quants.c); every lane belongs to one row.
//
// A format describes a chunk of 8 groups of 32 values (fewer in the last chunk of a row):
//   static constexpr ActivationScale kScale;
//   static constexpr bool kHalves;    // whether scales stand over 16 values instead of 32
//   static constexpr bool kMin;       // whether value = scale * q + min
//   static constexpr int kZeroBits;   // otherwise value = scale * (q - 2^kZeroBits); -1: no zero
//   static constexpr int kBlockBytes; // of one row
//   Format(const std::byte* chunk, int blocks, int lane);  // for rows lane, lane + 1, ...
//   using Quants = Values<...>;       // those that share packed bytes
//   Quants quants(int g, int i);      // at[n][s]: four unsigned values of a row a lane, those from
//                                     // 32 (g + n) + 4 (i + 4 s) on
// Formats of blocks of 32 (ActivationScale::per_32):
//   Vec::F scale(int g, int half); Vec::F min(int g, int half);
// Super-blocks, with integers in the place of scales, and their scale over all the chunk:
//   Vec::F scale(int g, int half); Vec::F d();
//   IVec::I min_pairs(int p);         // value = d * scale * q - d_min * min: two minima of 16 bits
//   Vec::F d_min();                   // a lane, in the order of QuantizedChunk's pairs
// All of g, i, half and p are known when the code is compiled, but for g where blocks are 32
// values.
#pragma once

#include "muster/kernels/panel_product_kernels.h"

namespace muster {
namespace {

using F = Vec::F;
using I = IVec::I;

constexpr int kRow4 = 4 * kPanelRows;  // bytes of a unit of 4, of all rows
constexpr int kRow2 = 2 * kPanelRows;

/// What one look at a chunk's bytes yields: of kNumber groups, kAtOnce of the 8 / kAtOnce steps.
template <int kNumber, int kAtOnce>
struct Values {
    static constexpr int kGroups = kNumber, kSteps = kAtOnce;
    I at[kNumber][kAtOnce];
};

I low_nibbles(I v) noexcept { return IVec::and_(v, IVec::bytes(0x0f)); }
I high_nibbles(I v) noexcept { return low_nibbles(IVec::right(v, 4)); }

/// Shifted to the left, or by a negative number to the right.
I shifted(I v, int left) noexcept {
    return left > 0 ? IVec::left(v, left) : left < 0 ? IVec::right(v, -left) : v;
}
I bytes_of(I v, int mask) noexcept { return IVec::and_(v, IVec::bytes(mask)); }
/// Byte k of each lane, as a number.
I byte_of(I v, int k) noexcept {
    const I moved = IVec::right(v, 8 * k);
    return k == 3 ? moved : IVec::and_(moved, IVec::set1(255));
}
/// Bytes 0 and 2 of each lane (p even) or 1 and 3 as 16-bit numbers.
I pair_of(I v, int p) noexcept {
    return IVec::and_(p % 2 == 0 ? v : IVec::right(v, 8), IVec::set1(0x00ff00ff));
}

/// Thirty-two values of four bits in dwords 0 to 3: the low nibbles, then the high ones.
using NibbleQuants = Values<1, 2>;
NibbleQuants nibbles(const std::byte* qs, int i) noexcept {
    const I v = IVec::load_once(qs + i * kRow4);
    return {{{low_nibbles(v), high_nibbles(v)}}};
}

/// Bits 4 i ... 4 i + 3 of each lane, one a byte.
I bits_to_bytes(I bits, int i) noexcept {
    const I four = IVec::and_(IVec::right(bits, 4 * i), IVec::set1(15));
    return IVec::and_(IVec::mul(four, IVec::set1(0x00204081)), IVec::bytes(1));
}

/// Values of five bits, the fifth ones in qh.
NibbleQuants five_bits(const std::byte* qs, const std::byte* qh, int g, int i) noexcept {
    NibbleQuants q = nibbles(qs + g * 4 * kRow4, i);
    const I high = IVec::load_once(qh + g * kRow4);
    for (int s = 0; s < 2; ++s) {
        q.at[0][s] = IVec::or_(q.at[0][s], IVec::left(bits_to_bytes(high, i + 4 * s), 4));
    }
    return q;
}

NibbleQuants looked_up(I table, NibbleQuants q) noexcept {
    return {{{IVec::lookup(table, q.at[0][0]), IVec::lookup(table, q.at[0][1])}}};
}

struct FormatQ8_0 {
    static constexpr ActivationScale kScale = ActivationScale::per_32;
    static constexpr bool kHalves = false, kMin = false;
    static constexpr int kZeroBits = 7;
    static constexpr int kBlockBytes = 34;
    using Quants = Values<1, 1>;
    const std::byte *d, *qs;
    FormatQ8_0(const std::byte* c, int blocks, int lane) noexcept
        : d(c + 2 * lane), qs(c + blocks * kRow2 + 4 * lane) {}
    Quants quants(int g, int i) const noexcept {
        return {{{IVec::xor_(IVec::load(qs + (8 * g + i) * kRow4), IVec::bytes(0x80))}}};
    }
    F scale(int g, int) const noexcept { return IVec::load_f16(d + g * kRow2); }
    F min(int, int) const noexcept { return Vec::zero(); }
};

struct FormatQ4_0 {
    static constexpr ActivationScale kScale = ActivationScale::per_32;
    static constexpr bool kHalves = false, kMin = false;
    static constexpr int kZeroBits = 3;
    static constexpr int kBlockBytes = 18;
    using Quants = NibbleQuants;
    const std::byte *d, *qs;
    FormatQ4_0(const std::byte* c, int blocks, int lane) noexcept
        : d(c + 2 * lane), qs(c + blocks * kRow2 + 4 * lane) {}
    Quants quants(int g, int i) const noexcept { return nibbles(qs + g * 4 * kRow4, i); }
    F scale(int g, int) const noexcept { return IVec::load_f16(d + g * kRow2); }
    F min(int, int) const noexcept { return Vec::zero(); }
};

struct FormatQ4_1 {
    static constexpr ActivationScale kScale = ActivationScale::per_32;
    static constexpr bool kHalves = false, kMin = true;
    static constexpr int kZeroBits = -1;
    static constexpr int kBlockBytes = 20;
    using Quants = NibbleQuants;
    const std::byte *d, *qs;
    FormatQ4_1(const std::byte* c, int blocks, int lane) noexcept
        : d(c + 2 * lane), qs(c + blocks * 2 * kRow2 + 4 * lane) {}
    Quants quants(int g, int i) const noexcept { return nibbles(qs + g * 4 * kRow4, i); }
    F scale(int g, int) const noexcept { return IVec::load_f16(d + 2 * g * kRow2); }
    F min(int g, int) const noexcept { return IVec::load_f16(d + (2 * g + 1) * kRow2); }
};

struct FormatQ5_0 {
    static constexpr ActivationScale kScale = ActivationScale::per_32;
    static constexpr bool kHalves = false, kMin = false;
    static constexpr int kZeroBits = 4;
    static constexpr int kBlockBytes = 22;
    using Quants = NibbleQuants;
    const std::byte *d, *qh, *qs;
    FormatQ5_0(const std::byte* c, int blocks, int lane) noexcept
        : d(c + 2 * lane),
          qh(c + blocks * kRow2 + 4 * lane),
          qs(c + blocks * (kRow2 + kRow4) + 4 * lane) {}
    Quants quants(int g, int i) const noexcept { return five_bits(qs, qh, g, i); }
    F scale(int g, int) const noexcept { return IVec::load_f16(d + g * kRow2); }
    F min(int, int) const noexcept { return Vec::zero(); }
};

struct FormatQ5_1 {
    static constexpr ActivationScale kScale = ActivationScale::per_32;
    static constexpr bool kHalves = false, kMin = true;
    static constexpr int kZeroBits = -1;
    static constexpr int kBlockBytes = 24;
    using Quants = NibbleQuants;
    const std::byte *d, *qh, *qs;
    FormatQ5_1(const std::byte* c, int blocks, int lane) noexcept
        : d(c + 2 * lane),
          qh(c + blocks * 2 * kRow2 + 4 * lane),
          qs(c + blocks * (2 * kRow2 + kRow4) + 4 * lane) {}
    Quants quants(int g, int i) const noexcept { return five_bits(qs, qh, g, i); }
    F scale(int g, int) const noexcept { return IVec::load_f16(d + 2 * g * kRow2); }
    F min(int g, int) const noexcept { return IVec::load_f16(d + (2 * g + 1) * kRow2); }
};

// IQ4's sixteen values (-127, -104, ... 113), plus 128.
alignas(16) constexpr uint8_t kIq4Values[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                                129, 141, 153, 166, 181, 197, 217, 241};
// MXFP4's sixteen values (OCP Microscaling Formats 1.0, E2M1), times 2, plus 16.
alignas(16) constexpr uint8_t kFp4Values[16] = {16, 17, 18, 19, 20, 22, 24, 28,
                                                16, 15, 14, 13, 12, 10, 8,  4};

struct FormatIq4Nl {
    static constexpr ActivationScale kScale = ActivationScale::per_32;
    static constexpr bool kHalves = false, kMin = false;
    static constexpr int kZeroBits = 7;
    static constexpr int kBlockBytes = 18;
    using Quants = NibbleQuants;
    const std::byte *d, *qs;
    FormatIq4Nl(const std::byte* c, int blocks, int lane) noexcept
        : d(c + 2 * lane), qs(c + blocks * kRow2 + 4 * lane) {}
    Quants quants(int g, int i) const noexcept {
        return looked_up(IVec::table(kIq4Values), nibbles(qs + g * 4 * kRow4, i));
    }
    F scale(int g, int) const noexcept { return IVec::load_f16(d + g * kRow2); }
    F min(int, int) const noexcept { return Vec::zero(); }
};

struct FormatMxfp4 {
    static constexpr ActivationScale kScale = ActivationScale::per_32;
    static constexpr bool kHalves = false, kMin = false;
    static constexpr int kZeroBits = 4;
    static constexpr int kBlockBytes = 17;
    using Quants = NibbleQuants;
    const std::byte *e, *qs;
    FormatMxfp4(const std::byte* c, int blocks, int lane) noexcept
        : e(c + lane), qs(c + blocks * kPanelRows + 4 * lane) {}
    Quants quants(int g, int i) const noexcept {
        return looked_up(IVec::table(kFp4Values), nibbles(qs + g * 4 * kRow4, i));
    }
    /// 2^(e - 128): an f32 of the exponent e - 1; for e = 0 and 1 a subnormal one of the bits
    /// (e + 1) << 21, which are fewer for all others.
    F scale(int g, int) const noexcept {
        const I exponent = IVec::load_bytes(e + g * kPanelRows);
        const I normal = IVec::sub(IVec::left(exponent, 23), IVec::set1(1 << 23));
        const I subnormal = IVec::add(IVec::left(exponent, 21), IVec::set1(1 << 21));
        return IVec::as_float(IVec::max(normal, subnormal));
    }
    F min(int, int) const noexcept { return Vec::zero(); }
};

/// Q4_K and Q5_K: eight 6-bit scales and minima of a super-block in twelve bytes, here one a byte.
struct SixBitScales {
    F d, d_min;
    I scales[2], minima[2];
    SixBitScales(const std::byte* c, int lane) noexcept
        : d(IVec::load_f16(c + 2 * lane)), d_min(IVec::load_f16(c + kRow2 + 2 * lane)) {
        const I low = IVec::load(c + 2 * kRow2 + 4 * lane);
        const I mid = IVec::load(c + 2 * kRow2 + kRow4 + 4 * lane);
        const I high = IVec::load(c + 2 * kRow2 + 2 * kRow4 + 4 * lane);
        scales[0] = bytes_of(low, 63);
        minima[0] = bytes_of(mid, 63);
        scales[1] = IVec::or_(bytes_of(high, 15), bytes_of(IVec::right(low, 2), 48));
        minima[1] =
            IVec::or_(bytes_of(IVec::right(high, 4), 15), bytes_of(IVec::right(mid, 2), 48));
    }
    F scale(int g) const noexcept { return IVec::to_float(byte_of(scales[g / 4], g % 4)); }
    I min_pairs(int p) const noexcept { return pair_of(minima[p / 2], p); }
    static constexpr int kBytes = 2 * kRow2 + 3 * kRow4;
};

struct FormatQ4K {
    static constexpr ActivationScale kScale = ActivationScale::per_256;
    static constexpr bool kHalves = false, kMin = true;
    static constexpr int kZeroBits = -1;
    static constexpr int kBlockBytes = 144;
    using Quants = Values<2, 1>;
    SixBitScales scales;
    const std::byte* qs;
    FormatQ4K(const std::byte* c, int, int lane) noexcept
        : scales(c, lane), qs(c + SixBitScales::kBytes + 4 * lane) {}
    Quants quants(int g, int i) const noexcept {
        const I v = IVec::load_once(qs + (4 * g + i) * kRow4);
        return {{{low_nibbles(v)}, {high_nibbles(v)}}};
    }
    F scale(int g, int) const noexcept { return scales.scale(g); }
    F d() const noexcept { return scales.d; }
    I min_pairs(int p) const noexcept { return scales.min_pairs(p); }
    F d_min() const noexcept { return scales.d_min; }
};

struct FormatQ5K {
    static constexpr ActivationScale kScale = ActivationScale::per_256;
    static constexpr bool kHalves = false, kMin = true;
    static constexpr int kZeroBits = -1;
    static constexpr int kBlockBytes = 176;
    using Quants = Values<2, 1>;
    SixBitScales scales;
    const std::byte* qs;
    FormatQ5K(const std::byte* c, int, int lane) noexcept
        : scales(c, lane), qs(c + SixBitScales::kBytes + 4 * lane) {}
    Quants quants(int g, int i) const noexcept {
        const I high = IVec::load_once(qs + 2 * i * kRow4);
        const I v = IVec::load_once(qs + (g == 0 ? 2 * i + 1 : 8 + 4 * g + i) * kRow4);
        return {{{IVec::or_(low_nibbles(v), bytes_of(shifted(high, 4 - g), 16))},
                 {IVec::or_(high_nibbles(v), bytes_of(shifted(high, 3 - g), 16))}}};
    }
    F scale(int g, int) const noexcept { return scales.scale(g); }
    F d() const noexcept { return scales.d; }
    I min_pairs(int p) const noexcept { return scales.min_pairs(p); }
    F d_min() const noexcept { return scales.d_min; }
};

struct FormatQ6K {
    static constexpr ActivationScale kScale = ActivationScale::per_256;
    static constexpr bool kHalves = true, kMin = false;
    static constexpr int kZeroBits = 5;
    static constexpr int kBlockBytes = 210;
    using Quants = Values<4, 1>;
    const std::byte *qs, *scales, *super;
    FormatQ6K(const std::byte* c, int, int lane) noexcept
        : qs(c + 4 * lane), scales(c + 48 * kRow4 + lane), super(c + 52 * kRow4 + 2 * lane) {}
    Quants quants(int g, int i) const noexcept {
        const std::byte* at = qs + (6 * g + 3 * i) * kRow4;
        const I a = IVec::load_once(at), b = IVec::load_once(at + kRow4);
        const I high = IVec::load_once(at + 2 * kRow4);
        return {{{IVec::or_(low_nibbles(a), bytes_of(IVec::left(high, 4), 48))},
                 {IVec::or_(low_nibbles(b), bytes_of(IVec::left(high, 2), 48))},
                 {IVec::or_(high_nibbles(a), bytes_of(high, 48))},
                 {IVec::or_(high_nibbles(b), bytes_of(IVec::right(high, 2), 48))}}};
    }
    F scale(int g, int half) const noexcept {
        return Vec::load_i8(scales + (2 * g + half) * kPanelRows);
    }
    F d() const noexcept { return IVec::load_f16(super); }
};

struct FormatQ3K {
    static constexpr ActivationScale kScale = ActivationScale::per_256;
    static constexpr bool kHalves = true, kMin = false;
    static constexpr int kZeroBits = 2;
    static constexpr int kBlockBytes = 110;
    using Quants = Values<4, 1>;
    const std::byte *qs, *super;
    I low, mid, high;
    FormatQ3K(const std::byte* c, int, int lane) noexcept
        : qs(c + 4 * lane),
          super(c + 27 * kRow4 + 2 * lane),
          low(IVec::load(c + 24 * kRow4 + 4 * lane)),
          mid(IVec::load(c + 25 * kRow4 + 4 * lane)),
          high(IVec::load(c + 26 * kRow4 + 4 * lane)) {}
    Quants quants(int g, int i) const noexcept {
        const I third = IVec::load_once(qs + 2 * i * kRow4);
        const I two = IVec::load_once(qs + (g == 0 ? 2 * i + 1 : 16 + i) * kRow4);
        Quants out;
        for (int n = 0; n < 4; ++n) {
            out.at[n][0] = IVec::or_(bytes_of(shifted(two, -2 * n), 3),
                                     bytes_of(shifted(third, 2 - g - n), 4));
        }
        return out;
    }
    /// Scale j has its low four bits in nibble j / 8 of byte j % 8, two high ones in bytes 8 to 11.
    F scale(int g, int half) const noexcept {
        const int j = 2 * g + half;
        const I four = IVec::right(j % 8 < 4 ? low : mid, 8 * (j % 4) + 4 * (j / 8));
        const I two = shifted(high, 4 - (8 * (j % 4) + 2 * (j / 4)));
        const I s = IVec::or_(IVec::and_(four, IVec::set1(15)), IVec::and_(two, IVec::set1(48)));
        return IVec::to_float(IVec::sub(s, IVec::set1(32)));
    }
    F d() const noexcept { return IVec::load_f16(super); }
};

struct FormatQ2K {
    static constexpr ActivationScale kScale = ActivationScale::per_256;
    static constexpr bool kHalves = true, kMin = true;
    static constexpr int kZeroBits = -1;
    static constexpr int kBlockBytes = 84;
    using Quants = Values<4, 1>;
    const std::byte *scales, *qs, *super;
    FormatQ2K(const std::byte* c, int, int lane) noexcept
        : scales(c + 4 * lane), qs(c + 4 * kRow4 + 4 * lane), super(c + 20 * kRow4 + 2 * lane) {}
    Quants quants(int g, int i) const noexcept {
        const I v = IVec::load_once(qs + (2 * g + i) * kRow4);
        Quants out;
        for (int n = 0; n < 4; ++n) out.at[n][0] = bytes_of(shifted(v, -2 * n), 3);
        return out;
    }
    F scale(int g, int half) const noexcept {
        const int j = 2 * g + half;
        const I four = IVec::load(scales + j / 4 * kRow4);
        return IVec::to_float(IVec::and_(IVec::right(four, 8 * (j % 4)), IVec::set1(15)));
    }
    F d() const noexcept { return IVec::load_f16(super); }
    I min_pairs(int p) const noexcept {
        return pair_of(high_nibbles(IVec::load(scales + p / 2 * kRow4)), p);
    }
    F d_min() const noexcept { return IVec::load_f16(super + kRow2); }
};

struct FormatIq4Xs {
    static constexpr ActivationScale kScale = ActivationScale::per_256;
    static constexpr bool kHalves = false, kMin = false;
    static constexpr int kZeroBits = 7;
    static constexpr int kBlockBytes = 136;
    using Quants = NibbleQuants;
    const std::byte* super;
    I high, low;
    const std::byte* qs;
    FormatIq4Xs(const std::byte* c, int, int lane) noexcept
        : super(c + 2 * lane),
          high(IVec::load_u16(c + kRow2 + 2 * lane)),
          low(IVec::load(c + 2 * kRow2 + 4 * lane)),
          qs(c + 2 * kRow2 + kRow4 + 4 * lane) {}
    Quants quants(int g, int i) const noexcept {
        return looked_up(IVec::table(kIq4Values), nibbles(qs + g * 4 * kRow4, i));
    }
    F scale(int g, int) const noexcept {
        const I s = IVec::or_(IVec::and_(IVec::right(low, 4 * g), IVec::set1(15)),
                              IVec::and_(shifted(high, 4 - 2 * g), IVec::set1(48)));
        return IVec::to_float(IVec::sub(s, IVec::set1(32)));
    }
    F d() const noexcept { return IVec::load_f16(super); }
};

}  // namespace
}  // namespace muster
