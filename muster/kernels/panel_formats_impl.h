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
//   Format(const std::byte* chunk, int blocks, int lane);  // for rows lane, lane + 1, ...
//   IVec::I quants(int g, int i);     // four unsigned values of a row a lane: values 32 g + 4 i
//   ... Vec::F scale(int g, int half); Vec::F min(int g, int half);
// All of g, i and half are known when the code is compiled, but for g where blocks are 32 values.
#pragma once

#include "muster/kernels/panel_product_kernels.h"

namespace muster {
namespace {

using F = Vec::F;
using I = IVec::I;

constexpr int kRow4 = 4 * kPanelRows;  // bytes of a unit of 4, of all rows
constexpr int kRow2 = 2 * kPanelRows;

I low_nibbles(I v) noexcept { return IVec::and_(v, IVec::bytes(0x0f)); }
I high_nibbles(I v) noexcept { return low_nibbles(IVec::right(v, 4)); }

/// Sixteen values of four bits in dwords 0 to 3: the low nibbles, then the high ones.
I nibble_group(const std::byte* qs, int i) noexcept {
    const I v = IVec::load(qs + (i & 3) * kRow4);
    return i < 4 ? low_nibbles(v) : high_nibbles(v);
}

/// Bits 4 i ... 4 i + 3 of each lane, one a byte.
I bits_to_bytes(I bits, int i) noexcept {
    const I four = IVec::and_(IVec::right(bits, 4 * i), IVec::set1(15));
    return IVec::and_(IVec::mul(four, IVec::set1(0x00204081)), IVec::bytes(1));
}

struct FormatQ8_0 {
    static constexpr ActivationScale kScale = ActivationScale::per_32;
    static constexpr bool kHalves = false, kMin = false;
    static constexpr int kZeroBits = 7;
    const std::byte *d, *qs;
    FormatQ8_0(const std::byte* c, int blocks, int lane) noexcept
        : d(c + 2 * lane), qs(c + blocks * kRow2 + 4 * lane) {}
    I quants(int g, int i) const noexcept {
        return IVec::xor_(IVec::load(qs + (8 * g + i) * kRow4), IVec::bytes(0x80));
    }
    F scale(int g, int) const noexcept { return IVec::load_f16(d + g * kRow2); }
    F min(int, int) const noexcept { return Vec::zero(); }
};

struct FormatQ4_0 {
    static constexpr ActivationScale kScale = ActivationScale::per_32;
    static constexpr bool kHalves = false, kMin = false;
    static constexpr int kZeroBits = 3;
    const std::byte *d, *qs;
    FormatQ4_0(const std::byte* c, int blocks, int lane) noexcept
        : d(c + 2 * lane), qs(c + blocks * kRow2 + 4 * lane) {}
    I quants(int g, int i) const noexcept { return nibble_group(qs + g * 4 * kRow4, i); }
    F scale(int g, int) const noexcept { return IVec::load_f16(d + g * kRow2); }
    F min(int, int) const noexcept { return Vec::zero(); }
};

struct FormatQ4_1 {
    static constexpr ActivationScale kScale = ActivationScale::per_32;
    static constexpr bool kHalves = false, kMin = true;
    static constexpr int kZeroBits = -1;
    const std::byte *d, *qs;
    FormatQ4_1(const std::byte* c, int blocks, int lane) noexcept
        : d(c + 2 * lane), qs(c + blocks * 2 * kRow2 + 4 * lane) {}
    I quants(int g, int i) const noexcept { return nibble_group(qs + g * 4 * kRow4, i); }
    F scale(int g, int) const noexcept { return IVec::load_f16(d + 2 * g * kRow2); }
    F min(int g, int) const noexcept { return IVec::load_f16(d + (2 * g + 1) * kRow2); }
};

struct FormatQ5_0 {
    static constexpr ActivationScale kScale = ActivationScale::per_32;
    static constexpr bool kHalves = false, kMin = false;
    static constexpr int kZeroBits = 4;
    const std::byte *d, *qh, *qs;
    FormatQ5_0(const std::byte* c, int blocks, int lane) noexcept
        : d(c + 2 * lane),
          qh(c + blocks * kRow2 + 4 * lane),
          qs(c + blocks * (kRow2 + kRow4) + 4 * lane) {}
    I quants(int g, int i) const noexcept {
        const I high = bits_to_bytes(IVec::load(qh + g * kRow4), i);
        return IVec::or_(nibble_group(qs + g * 4 * kRow4, i), IVec::left(high, 4));
    }
    F scale(int g, int) const noexcept { return IVec::load_f16(d + g * kRow2); }
    F min(int, int) const noexcept { return Vec::zero(); }
};

struct FormatQ5_1 {
    static constexpr ActivationScale kScale = ActivationScale::per_32;
    static constexpr bool kHalves = false, kMin = true;
    static constexpr int kZeroBits = -1;
    const std::byte *d, *qh, *qs;
    FormatQ5_1(const std::byte* c, int blocks, int lane) noexcept
        : d(c + 2 * lane),
          qh(c + blocks * 2 * kRow2 + 4 * lane),
          qs(c + blocks * (2 * kRow2 + kRow4) + 4 * lane) {}
    I quants(int g, int i) const noexcept {
        const I high = bits_to_bytes(IVec::load(qh + g * kRow4), i);
        return IVec::or_(nibble_group(qs + g * 4 * kRow4, i), IVec::left(high, 4));
    }
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
    const std::byte *d, *qs;
    FormatIq4Nl(const std::byte* c, int blocks, int lane) noexcept
        : d(c + 2 * lane), qs(c + blocks * kRow2 + 4 * lane) {}
    I quants(int g, int i) const noexcept {
        return IVec::lookup(IVec::table(kIq4Values), nibble_group(qs + g * 4 * kRow4, i));
    }
    F scale(int g, int) const noexcept { return IVec::load_f16(d + g * kRow2); }
    F min(int, int) const noexcept { return Vec::zero(); }
};

struct FormatMxfp4 {
    static constexpr ActivationScale kScale = ActivationScale::per_32;
    static constexpr bool kHalves = false, kMin = false;
    static constexpr int kZeroBits = 4;
    const std::byte *e, *qs;
    FormatMxfp4(const std::byte* c, int blocks, int lane) noexcept
        : e(c + lane), qs(c + blocks * kPanelRows + 4 * lane) {}
    I quants(int g, int i) const noexcept {
        return IVec::lookup(IVec::table(kFp4Values), nibble_group(qs + g * 4 * kRow4, i));
    }
    /// 2^(e - 128), by way of 2^(e - 127) as the exponent of an f32 (0 for e = 0).
    F scale(int g, int) const noexcept {
        const I exponent = IVec::left(IVec::load_bytes(e + g * kPanelRows), 23);
        return Vec::mul(IVec::as_float(exponent), Vec::set1(0.5f));
    }
    F min(int, int) const noexcept { return Vec::zero(); }
};

/// Q4_K and Q5_K: eight 6-bit scales and minima of a super-block in twelve bytes.
struct SixBitScales {
    F d, dmin;
    I v[3];
    SixBitScales(const std::byte* c, int lane) noexcept
        : d(IVec::load_f16(c + 2 * lane)), dmin(IVec::load_f16(c + kRow2 + 2 * lane)) {
        for (int i = 0; i < 3; ++i) v[i] = IVec::load(c + 2 * kRow2 + i * kRow4 + 4 * lane);
    }
    static I field(I x, int from, int mask) noexcept {
        return IVec::and_(IVec::right(x, from), IVec::set1(mask));
    }
    I joined(int low, I high_of, int h) const noexcept {
        return IVec::or_(field(v[2], low, 15), IVec::left(field(high_of, 8 * h + 6, 3), 4));
    }
    F scale(int g) const noexcept {
        const I s = g < 4 ? field(v[0], 8 * g, 63) : joined(8 * (g - 4), v[0], g - 4);
        return Vec::mul(d, IVec::to_float(s));
    }
    F min(int g) const noexcept {
        const I m = g < 4 ? field(v[1], 8 * g, 63) : joined(8 * (g - 4) + 4, v[1], g - 4);
        return Vec::sub(Vec::zero(), Vec::mul(dmin, IVec::to_float(m)));
    }
    static constexpr int kBytes = 2 * kRow2 + 3 * kRow4;
};

struct FormatQ4K {
    static constexpr ActivationScale kScale = ActivationScale::per_256;
    static constexpr bool kHalves = false, kMin = true;
    static constexpr int kZeroBits = -1;
    SixBitScales scales;
    const std::byte* qs;
    FormatQ4K(const std::byte* c, int, int lane) noexcept
        : scales(c, lane), qs(c + SixBitScales::kBytes + 4 * lane) {}
    I quants(int g, int i) const noexcept {
        const I v = IVec::load(qs + (8 * (g / 2) + i) * kRow4);
        return g % 2 == 0 ? low_nibbles(v) : high_nibbles(v);
    }
    F scale(int g, int) const noexcept { return scales.scale(g); }
    F min(int g, int) const noexcept { return scales.min(g); }
};

struct FormatQ5K {
    static constexpr ActivationScale kScale = ActivationScale::per_256;
    static constexpr bool kHalves = false, kMin = true;
    static constexpr int kZeroBits = -1;
    SixBitScales scales;
    const std::byte *qh, *qs;
    FormatQ5K(const std::byte* c, int, int lane) noexcept
        : scales(c, lane),
          qh(c + SixBitScales::kBytes + 4 * lane),
          qs(c + SixBitScales::kBytes + 8 * kRow4 + 4 * lane) {}
    I quants(int g, int i) const noexcept {
        const I v = IVec::load(qs + (8 * (g / 2) + i) * kRow4);
        const I high = IVec::and_(IVec::right(IVec::load(qh + i * kRow4), g), IVec::bytes(1));
        return IVec::or_(g % 2 == 0 ? low_nibbles(v) : high_nibbles(v), IVec::left(high, 4));
    }
    F scale(int g, int) const noexcept { return scales.scale(g); }
    F min(int g, int) const noexcept { return scales.min(g); }
};

struct FormatQ6K {
    static constexpr ActivationScale kScale = ActivationScale::per_256;
    static constexpr bool kHalves = true, kMin = false;
    static constexpr int kZeroBits = 5;
    const std::byte *ql, *qh, *scales;
    F d;
    FormatQ6K(const std::byte* c, int, int lane) noexcept
        : ql(c + 4 * lane),
          qh(c + 32 * kRow4 + 4 * lane),
          scales(c + 48 * kRow4 + 4 * lane),
          d(IVec::load_f16(c + 52 * kRow4 + 2 * lane)) {}
    I quants(int g, int i) const noexcept {
        const int h = g / 4, s = g % 4;
        const I low = IVec::load(ql + (16 * h + 8 * (s % 2) + i) * kRow4);
        const I high = IVec::right(IVec::load(qh + (8 * h + i) * kRow4), 2 * s);
        return IVec::or_(s < 2 ? low_nibbles(low) : high_nibbles(low),
                         IVec::left(IVec::and_(high, IVec::bytes(3)), 4));
    }
    F scale(int g, int half) const noexcept {
        const int index = 2 * g + half;
        const I four = IVec::load(scales + index / 4 * kRow4);
        const I signed_byte = IVec::right_signed(IVec::left(four, 24 - 8 * (index % 4)), 24);
        return Vec::mul(d, IVec::to_float(signed_byte));
    }
    F min(int, int) const noexcept { return Vec::zero(); }
};

struct FormatQ3K {
    static constexpr ActivationScale kScale = ActivationScale::per_256;
    static constexpr bool kHalves = true, kMin = false;
    static constexpr int kZeroBits = 2;
    const std::byte *hmask, *qs, *scales;
    F d;
    FormatQ3K(const std::byte* c, int, int lane) noexcept
        : hmask(c + 4 * lane),
          qs(c + 8 * kRow4 + 4 * lane),
          scales(c + 24 * kRow4 + 4 * lane),
          d(IVec::load_f16(c + 27 * kRow4 + 2 * lane)) {}
    I quants(int g, int i) const noexcept {
        const int h = g / 4, s = g % 4;
        const I low = IVec::right(IVec::load(qs + (8 * h + i) * kRow4), 2 * s);
        const I high = IVec::right(IVec::load(hmask + i * kRow4), g);
        return IVec::or_(IVec::and_(low, IVec::bytes(3)),
                         IVec::left(IVec::and_(high, IVec::bytes(1)), 2));
    }
    /// Scale j has its low four bits in nibble j / 8 of byte j % 8, two high ones in bytes 8 to 11.
    F scale(int g, int half) const noexcept {
        const int j = 2 * g + half;
        const I low = IVec::load(scales + j % 8 / 4 * kRow4);
        const I high = IVec::load(scales + 2 * kRow4);
        const I s = IVec::or_(
            IVec::and_(IVec::right(low, 8 * (j % 4) + 4 * (j / 8)), IVec::set1(15)),
            IVec::left(IVec::and_(IVec::right(high, 8 * (j % 4) + 2 * (j / 4)), IVec::set1(3)), 4));
        return Vec::mul(d, IVec::to_float(IVec::sub(s, IVec::set1(32))));
    }
    F min(int, int) const noexcept { return Vec::zero(); }
};

struct FormatQ2K {
    static constexpr ActivationScale kScale = ActivationScale::per_256;
    static constexpr bool kHalves = true, kMin = true;
    static constexpr int kZeroBits = -1;
    const std::byte *scales, *qs;
    F d, dmin;
    FormatQ2K(const std::byte* c, int, int lane) noexcept
        : scales(c + 4 * lane),
          qs(c + 4 * kRow4 + 4 * lane),
          d(IVec::load_f16(c + 20 * kRow4 + 2 * lane)),
          dmin(IVec::load_f16(c + 20 * kRow4 + kRow2 + 2 * lane)) {}
    I quants(int g, int i) const noexcept {
        const int h = g / 4, s = g % 4;
        return IVec::and_(IVec::right(IVec::load(qs + (8 * h + i) * kRow4), 2 * s), IVec::bytes(3));
    }
    I nibble(int j, int from) const noexcept {
        const I four = IVec::load(scales + j / 4 * kRow4);
        return IVec::and_(IVec::right(four, 8 * (j % 4) + from), IVec::set1(15));
    }
    F scale(int g, int half) const noexcept {
        return Vec::mul(d, IVec::to_float(nibble(2 * g + half, 0)));
    }
    F min(int g, int half) const noexcept {
        return Vec::sub(Vec::zero(), Vec::mul(dmin, IVec::to_float(nibble(2 * g + half, 4))));
    }
};

struct FormatIq4Xs {
    static constexpr ActivationScale kScale = ActivationScale::per_256;
    static constexpr bool kHalves = false, kMin = false;
    static constexpr int kZeroBits = 7;
    F d;
    I high, low;
    const std::byte* qs;
    FormatIq4Xs(const std::byte* c, int, int lane) noexcept
        : d(IVec::load_f16(c + 2 * lane)),
          high(IVec::load_u16(c + kRow2 + 2 * lane)),
          low(IVec::load(c + 2 * kRow2 + 4 * lane)),
          qs(c + 2 * kRow2 + kRow4 + 4 * lane) {}
    I quants(int g, int i) const noexcept {
        return IVec::lookup(IVec::table(kIq4Values), nibble_group(qs + g * 4 * kRow4, i));
    }
    F scale(int g, int) const noexcept {
        const I s = IVec::or_(IVec::and_(IVec::right(low, 4 * g), IVec::set1(15)),
                              IVec::left(IVec::and_(IVec::right(high, 2 * g), IVec::set1(3)), 4));
        return Vec::mul(d, IVec::to_float(IVec::sub(s, IVec::set1(32))));
    }
    F min(int, int) const noexcept { return Vec::zero(); }
};

}  // namespace
}  // namespace muster
