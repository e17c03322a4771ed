// SPDX-License-Identifier: Apache-2.0
// The product written once over Vec, IVec and the formats; included only by
// panel_product_<isa>.cpp after its ivec_<isa>.h. Everything has internal linkage.
//
// A tile is the product of one chunk of kTileVecs vectors of weight rows with up to kTileRows
// activation rows; its sums stay in registers. Two vectors halve the loads of activations, and six
// rows' addresses fit into the other registers. Few activation rows take their weights straight
// from the packed chunk; for more, the chunk is unpacked once, into the first-level cache, and the
// tiles pass by.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#include "muster/kernels/panel_formats_impl.h"

// Sanitizers take minutes to instrument whole chunks as one stretch of code.
#ifdef MUSTER_SANITIZED
#define MUSTER_GROUPS_INLINE [[gnu::noinline]]
#else
#define MUSTER_GROUPS_INLINE [[gnu::always_inline]]
#endif

namespace muster {
namespace {

constexpr int kGroups = kPanelChunk / 32;  // of a chunk

template <typename Source>
constexpr bool kSuperBlock = Source::kScale == ActivationScale::per_256;

/// Whether packed weights are fetched ahead of a few rows' products. The processor runs ahead of a
/// reader that walks straight on; only where there is less to compute than to load does it help to
/// go before.
template <typename Source>
constexpr bool kFetchAhead = false;
template <>
constexpr bool kFetchAhead<FormatQ8_0> = true;
constexpr int kAheadBytes = 512;  // more would look like another reader

/// `from`: an address, for it may lie past the end of the weights.
[[gnu::always_inline]] inline void fetch(uintptr_t from, int bytes) noexcept {
    for (int line = 0; line < bytes; line += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(from + line), _MM_HINT_T1);
    }
}

/// A chunk with one byte a value, and its scales and minima as the format gives them; formats that
/// differ in nothing else share it, and the code of its tiles.
template <ActivationScale kScaleOf, bool kHalvesOf, bool kMinOf, int kZeroBitsOf>
struct Unpacked {
    static constexpr int kScales = kHalvesOf ? 2 : 1;
    static constexpr bool kSuper = kScaleOf == ActivationScale::per_256, kMin = kMinOf;

    alignas(64) uint8_t values[kGroups * 8][kPanelRows][4];
    alignas(64) float scales[kGroups * kScales][kPanelRows];
    alignas(64) float minima[kMin && !kSuper ? kGroups : 1][kPanelRows];
    alignas(64) int32_t pairs[kMin && kSuper ? kGroups * kScales / 2 : 1][kPanelRows];
    alignas(64) float super[2][kPanelRows];  ///< d and d_min

    struct Lanes {
        static constexpr ActivationScale kScale = kScaleOf;
        static constexpr bool kHalves = kHalvesOf, kMin = kMinOf;
        static constexpr int kZeroBits = kZeroBitsOf;
        using Quants = Values<1, 1>;
        const Unpacked* chunk;
        int lane;
        Quants quants(int g, int i) const noexcept {
            return {{{IVec::load(chunk->values[8 * g + i][lane])}}};
        }
        F scale(int g, int half) const noexcept {
            return Vec::load(chunk->scales[g * kScales + half] + lane);
        }
        F min(int g, int) const noexcept { return Vec::load(chunk->minima[g] + lane); }
        F d() const noexcept { return Vec::load(chunk->super[0] + lane); }
        I min_pairs(int p) const noexcept { return IVec::load(chunk->pairs[p] + lane); }
        F d_min() const noexcept { return Vec::load(chunk->super[1] + lane); }
    };

    /// The groups that share bytes with group g.
    template <typename Format>
    [[gnu::always_inline]] void unpack_groups(const Format& f, int g, int lane) noexcept {
        using Quants = typename Format::Quants;
#pragma GCC unroll 8
        for (int i = 0; i < 8 / Quants::kSteps; ++i) {
            const Quants q = f.quants(g, i);
#pragma GCC unroll 4
            for (int n = 0; n < Quants::kGroups; ++n) {
#pragma GCC unroll 2
                for (int s = 0; s < Quants::kSteps; ++s) {
                    IVec::store(values[8 * (g + n) + i + 4 * s][lane], q.at[n][s]);
                }
            }
        }
#pragma GCC unroll 4
        for (int n = 0; n < Quants::kGroups; ++n) {
#pragma GCC unroll 2
            for (int half = 0; half < kScales; ++half) {
                Vec::store(scales[(g + n) * kScales + half] + lane, f.scale(g + n, half));
            }
            if constexpr (kMin && !kSuper) Vec::store(minima[g + n] + lane, f.min(g + n, 0));
        }
    }

    template <typename Format>
    void fill(const std::byte* packed, int blocks) noexcept {
        for (int lane = 0; lane < kPanelRows; lane += Vec::kLanes) {
            const Format f(packed, blocks, lane);
            if constexpr (kSuper) {
#pragma GCC unroll 8
                for (int g = 0; g < kGroups; g += Format::Quants::kGroups) {
                    unpack_groups(f, g, lane);
                }
                Vec::store(super[0] + lane, f.d());
                if constexpr (kMin) {
                    Vec::store(super[1] + lane, f.d_min());
#pragma GCC unroll 8
                    for (int p = 0; p < kGroups * kScales / 2; ++p) {
                        IVec::store(pairs[p] + lane, f.min_pairs(p));
                    }
                }
            } else {
                for (int g = 0; g < blocks; ++g) unpack_groups(f, g, lane);
            }
        }
    }
};

template <typename Format>
using UnpackedOf = Unpacked<Format::kScale, Format::kHalves, Format::kMin, Format::kZeroBits>;

/// Sums of kRows activation rows with kVecs vectors of weight rows. The sums of vector v and
/// activation row t go to c + v * stride + t * 16.
///
/// Loads are a bottleneck beside the dot products: on Zen 4 a whole vector takes both ports of a
/// cycle, and a broadcast one that another could share. So values that share packed bytes are
/// unpacked together, and broadcasts stand side by side.
template <typename Source, int kRows, int kVecs>
class Tile {
  public:
    /// `ahead`: the address of what to fetch while groups are multiplied, as many bytes.
    [[gnu::always_inline]] void run(const Source* w, int groups, const QuantizedChunk* const* x,
                                    int64_t chunk, float* c, int64_t stride,
                                    uintptr_t ahead = 0) noexcept {
#pragma GCC unroll 16
        for (int t = 0; t < kRows; ++t) {
            x_[t] = x[t] + chunk;
#pragma GCC unroll 4
            for (int v = 0; v < kVecs; ++v) sums_[t][v] = Vec::zero();
        }
        if constexpr (kSuper) {
            (void)groups;
#pragma GCC unroll 8
            for (int g = 0; g < kGroups; g += kTogether) {
                fetch_groups(ahead, g);
                add_groups<kTogether>(w, g);
            }
        } else {
            int g = 0;
            for (; g < groups; g += kTogether) {
                fetch_groups(ahead, g);
                add_groups<kTogether>(w, g);
            }
        }
#pragma GCC unroll 16
        for (int t = 0; t < kRows; ++t) {
#pragma GCC unroll 4
            for (int v = 0; v < kVecs; ++v) {
                float* out = c + v * stride + t * kPanelRows;
                Vec::store(out, with_total(w[v], t, v, Vec::load(out)));
            }
        }
    }

  private:
    static constexpr bool kSuper = kSuperBlock<Source>;
    static constexpr bool kSigned = !IVec::kWideDot && Source::kZeroBits == 7;
    static constexpr int kScales = Source::kHalves ? 2 : 1;
    using Quants = typename Source::Quants;
    static constexpr int kTogether = Quants::kGroups;
    [[gnu::always_inline]] static void fetch_groups(uintptr_t ahead, int g) noexcept {
        if constexpr (kFetchAhead<Source>) {
            constexpr int kGroupBytes = kPanelRows * Source::kBlockBytes;  // a group is a block
            fetch(ahead + g * kGroupBytes, kTogether * kGroupBytes);
        }
    }

    template <int kNumber>
    using Dots = I[kNumber][kRows][kVecs];

    template <int kNumber>
    MUSTER_GROUPS_INLINE void add_groups(const Source* w, int g) noexcept {
#pragma GCC unroll 2
        for (int half = 0; half < kScales; ++half) {
            Dots<kNumber> dots;
#pragma GCC unroll 4
            for (int n = 0; n < kNumber; ++n) {
#pragma GCC unroll 16
                for (int t = 0; t < kRows; ++t) {
                    const I first = start(t, g + n, half);
#pragma GCC unroll 4
                    for (int v = 0; v < kVecs; ++v) dots[n][t][v] = first;
                }
            }
#pragma GCC unroll 8
            for (int i = 0; i < 8 / kScales / Quants::kSteps; ++i) {
                add_values<kNumber>(w, g, 8 / kScales * half + i, dots);
            }
#pragma GCC unroll 4
            for (int n = 0; n < kNumber; ++n) {
#pragma GCC unroll 4
                for (int v = 0; v < kVecs; ++v) scale<kNumber>(w[v], n, v, g + n, half, dots);
            }
        }
    }

    /// The sum's share of the weights' zero: -2^kZeroBits times the activations.
    [[gnu::always_inline]] I start(int t, int g, int half) const noexcept {
        if constexpr (kSigned || Source::kZeroBits < 0) return IVec::zero();
        const int32_t* sum =
            Source::kHalves ? x_[t]->minus_sum16 + 2 * g + half : x_[t]->minus_sum32 + g;
        return IVec::left(IVec::broadcast(sum), Source::kZeroBits < 0 ? 0 : Source::kZeroBits);
    }

    template <int kNumber>
    [[gnu::always_inline]] void add_values(const Source* w, int g, int i,
                                           Dots<kNumber>& dots) const noexcept {
        constexpr int kBlocks = kNumber / Quants::kGroups;
        Quants q[kVecs][kBlocks];
#pragma GCC unroll 4
        for (int b = 0; b < kBlocks; ++b) {
#pragma GCC unroll 4
            for (int v = 0; v < kVecs; ++v) q[v][b] = w[v].quants(g + b * Quants::kGroups, i);
        }
#pragma GCC unroll 16
        for (int t = 0; t < kRows; ++t) {
            I x[kNumber][Quants::kSteps];
#pragma GCC unroll 4
            for (int n = 0; n < kNumber; ++n) {
#pragma GCC unroll 2
                for (int s = 0; s < Quants::kSteps; ++s) {
                    x[n][s] = IVec::broadcast(x_[t]->q + 32 * (g + n) + 4 * (i + 4 * s));
                }
            }
#pragma GCC unroll 4
            for (int n = 0; n < kNumber; ++n) {
#pragma GCC unroll 2
                for (int s = 0; s < Quants::kSteps; ++s) {
#pragma GCC unroll 4
                    for (int v = 0; v < kVecs; ++v) {
                        const I value = q[v][n / Quants::kGroups].at[n % Quants::kGroups][s];
                        dots[n][t][v] = dot(dots[n][t][v], value, x[n][s]);
                    }
                }
            }
        }
    }

    static I dot(I sum, I value, I x) noexcept {
        return kSigned ? IVec::dot_signed(sum, IVec::xor_(value, IVec::bytes(0x80)), x)
                       : IVec::dot(sum, value, x);
    }

    template <int kNumber>
    [[gnu::always_inline]] void scale(const Source& w, int n, int v, int g, int half,
                                      const Dots<kNumber>& dots) noexcept {
        const F scale = w.scale(g, half);
#pragma GCC unroll 16
        for (int t = 0; t < kRows; ++t) {
            const F both = kSuper ? scale : Vec::mul(scale, Vec::broadcast(x_[t]->scale + g));
            sums_[t][v] = Vec::fma(IVec::to_float(dots[n][t][v]), both, sums_[t][v]);
        }
        if constexpr (Source::kMin && !kSuper) {
            const F min = w.min(g, half);
#pragma GCC unroll 16
            for (int t = 0; t < kRows; ++t) {
                sums_[t][v] = Vec::fma(min, Vec::broadcast(x_[t]->sum32 + g), sums_[t][v]);
            }
        }
    }

    /// `out` and the sum of vector v and activation row t.
    [[gnu::always_inline]] F with_total(const Source& w, int t, int v, F out) const noexcept {
        if constexpr (!kSuper) {
            return Vec::add(sums_[t][v], out);
        } else {
            F total = Vec::mul(sums_[t][v], w.d());
            if constexpr (Source::kMin) {
                I minima = IVec::zero();
                const int16_t* pairs =
                    Source::kHalves ? x_[t]->minus_pairs16 : x_[t]->minus_pairs32;
#pragma GCC unroll 8
                for (int p = 0; p < kGroups * kScales / 2; ++p) {
                    minima =
                        IVec::dot_pairs(minima, w.min_pairs(p), IVec::broadcast(pairs + 2 * p));
                }
                total = Vec::fma(IVec::to_float(minima), w.d_min(), total);
            }
            return Vec::fma(total, Vec::broadcast(x_[t]->scale), out);
        }
    }

    const QuantizedChunk* x_[kRows];
    F sums_[kRows][kVecs];
};

/// Rows x[0 ... kRows) against one packed chunk, into c [kRows][16].
/// Not inlined: compilers would move what the tiles of all heights share before the choice.
template <typename Format, int kRows>
[[gnu::noinline]] void packed_tile(const std::byte* packed, int blocks,
                                   const QuantizedChunk* const* x, int64_t chunk,
                                   float* c) noexcept {
    const int groups = kSuperBlock<Format> ? kGroups : blocks;
    for (int lane = 0; lane < kPanelRows; lane += Vec::kLanes) {
        const Format f(packed, blocks, lane);
        Tile<Format, kRows, 1>().run(&f, groups, x, chunk, c + lane, 0,
                                     reinterpret_cast<uintptr_t>(packed) + kAheadBytes);
    }
}

constexpr int kPanelVecs = kPanelRows / Vec::kLanes;
/// Panels that a tile of kTileVecs vectors covers.
constexpr int kTilePanels = kTileVecs / kPanelVecs;

/// Rows x[0 ... kRows) against `chunks` [kPanels], into c [kPanels][stride / 16][16].
template <typename Chunk, int kPanels, int kRows>
void unpacked_tile(const Chunk* chunks, int groups, const QuantizedChunk* const* x, int64_t chunk,
                   float* c, int64_t stride) noexcept {
    using Lanes = typename Chunk::Lanes;
    Lanes lanes[kPanels * kPanelVecs];
    if constexpr (kPanelVecs == 1) {
        for (int p = 0; p < kPanels; ++p) lanes[p] = {&chunks[p], 0};
        Tile<Lanes, kRows, kPanels>().run(lanes, groups, x, chunk, c, stride);
    } else {
        static_assert(kPanels == 1);
        for (int v = 0; v < kPanelVecs; ++v) lanes[v] = {&chunks[0], v * Vec::kLanes};
        Tile<Lanes, kRows, kPanelVecs>().run(lanes, groups, x, chunk, c, Vec::kLanes);
    }
}

template <typename Chunk>
using UnpackedTileFn = void (*)(const Chunk*, int, const QuantizedChunk* const*, int64_t, float*,
                                int64_t) noexcept;

/// By rows - 1.
template <typename Chunk, int kPanels, int... kRows>
constexpr std::array<UnpackedTileFn<Chunk>, sizeof...(kRows)> tile_table(
    std::integer_sequence<int, kRows...>) noexcept {
    return {unpacked_tile<Chunk, kPanels, kRows + 1>...};
}

template <typename Format>
class Product {
  public:
    explicit Product(const PanelProduct& p) noexcept
        : p_(p), blocks_(p.w.cols / (kSuper ? kPanelChunk : 32)) {}

    void run() noexcept {
        for (int64_t row = p_.first, panels; row < p_.last; row += panels * kPanelRows) {
            const int64_t left = (p_.last - row + kPanelRows - 1) / kPanelRows;
            panels = p_.m > kPackedRows && left >= kTilePanels ? kTilePanels : 1;
            for (int64_t i = 0; i < p_.m; i += kSumRows) {
                const int64_t count = p_.m - i < kSumRows ? p_.m - i : kSumRows;
                alignas(64) float sums[kTilePanels * kSumRows * kPanelRows];
                for (int64_t p = 0; p < panels; ++p) {
                    std::memset(sums + p * kSumRows * kPanelRows, 0,
                                static_cast<size_t>(count * kPanelRows) * sizeof(float));
                }
                add_chunks(row, static_cast<int>(panels), i, count, sums);
                for (int64_t p = 0; p < panels; ++p) {
                    write(row + p * kPanelRows, i, count, sums + p * kSumRows * kPanelRows);
                }
            }
        }
    }

  private:
    using Chunk = UnpackedOf<Format>;
    static constexpr int64_t kSumRows = 96;    // sums of a panel: 6 KB
    static constexpr int64_t kPackedRows = 4;  // at most this many take packed weights
    static constexpr bool kSuper = kSuperBlock<Format>;
    static constexpr int kChunkBlocks = kSuper ? 1 : kGroups;
    static constexpr int kBlockRows = kPanelRows * Format::kBlockBytes;  // bytes of a block's panel
    static constexpr auto kTiles =
        tile_table<Chunk, kTilePanels>(std::make_integer_sequence<int, kTileRows>());
    static constexpr auto kLastTiles =
        tile_table<Chunk, 1>(std::make_integer_sequence<int, kTileRows>());

    /// Adds the products of all chunks of some panels with rows [first, first + count).
    void add_chunks(int64_t row, int panels, int64_t first, int64_t count, float* sums) noexcept {
        const QuantizedChunk* const* x = p_.x + first;
        // Tiles of many rows take their time: what the next panels need comes meanwhile.
        const bool many = count > kPackedRows && first == 0;
        const int64_t ahead = many ? panels * kBlockRows * blocks_ : 0;
        for (int64_t b = 0, chunk = 0; b < blocks_; b += kChunkBlocks, ++chunk) {
            const int n = static_cast<int>(blocks_ - b < kChunkBlocks ? blocks_ - b : kChunkBlocks);
            for (int p = 0; p < panels; ++p) {
                alignas(64) std::byte space[kPanelRows * kPanelChunk * 34 / 32];
                const std::byte* packed = packed_chunk(row + p * kPanelRows, b, n, ahead, space);
                if (count <= kPackedRows) {
                    packed_tiles(packed, n, chunk, x, count, sums);
                } else {
                    unpacked_[p].template fill<Format>(packed, n);
                }
            }
            if (count > kPackedRows) unpacked_tiles(panels, n, chunk, x, count, sums);
        }
    }

    /// Blocks [block, block + count) of the panel that starts with `row`; `space` for interleaving.
    /// Fetches as many bytes `ahead` of it (0: none).
    const std::byte* packed_chunk(int64_t row, int64_t block, int count, int64_t ahead,
                                  std::byte* space) const noexcept {
        const std::byte* at = p_.w.data + row * blocks_ * Format::kBlockBytes;
        if (p_.w.layout == WeightLayout::panels) {
            at += kBlockRows * block;
            if (ahead > 0) fetch(reinterpret_cast<uintptr_t>(at) + ahead, kBlockRows * count);
            return at;
        }
        const auto rows =
            static_cast<int>(p_.w.rows - row < kPanelRows ? p_.w.rows - row : kPanelRows);
        pack_chunk(p_.w.dtype, at + block * Format::kBlockBytes, blocks_ * Format::kBlockBytes,
                   rows, count, space);
        return space;
    }

    void write(int64_t row, int64_t first, int64_t count, const float* sums) const noexcept {
        const int64_t cols = p_.last - row < kPanelRows ? p_.last - row : kPanelRows;
        float* out = p_.out + first * p_.ldo + row - p_.first;
        for (int64_t i = 0; i < count; ++i, out += p_.ldo, sums += kPanelRows) {
            const int64_t whole = cols == kPanelRows ? kPanelRows : 0;
            for (int64_t j = 0; j < whole; j += Vec::kLanes)
                Vec::store(out + j, Vec::load(sums + j));
            if (whole == 0) std::memcpy(out, sums, static_cast<size_t>(cols) * sizeof(float));
        }
    }

    static void packed_tiles(const std::byte* packed, int blocks, int64_t chunk,
                             const QuantizedChunk* const* x, int64_t count, float* sums) noexcept {
        switch (count) {
            case 1:
                return packed_tile<Format, 1>(packed, blocks, x, chunk, sums);
            case 2:
                return packed_tile<Format, 2>(packed, blocks, x, chunk, sums);
            case 3:
                return packed_tile<Format, 3>(packed, blocks, x, chunk, sums);
            default:
                return packed_tile<Format, 4>(packed, blocks, x, chunk, sums);
        }
    }

    void unpacked_tiles(int panels, int blocks, int64_t chunk, const QuantizedChunk* const* x,
                        int64_t count, float* sums) const noexcept {
        const int groups = kSuper ? kGroups : blocks;
        const auto& tiles = panels == kTilePanels ? kTiles : kLastTiles;
        // Tiles of nearly equal height: a short last one would wait for its own results.
        const int64_t number = (count + kTileRows - 1) / kTileRows;
        for (int64_t t = 0, i = 0; t < number; ++t) {
            const int64_t next = count * (t + 1) / number;
            tiles[static_cast<size_t>(next - i - 1)](unpacked_, groups, x + i, chunk,
                                                     sums + i * kPanelRows, kSumRows * kPanelRows);
            i = next;
        }
    }

    const PanelProduct& p_;
    const int64_t blocks_;  ///< of a row
    Chunk unpacked_[kTilePanels];
};

template <typename Format>
void product(const PanelProduct& p) noexcept {
    Product<Format>(p).run();
}

PanelProductFn find_product(DType dtype) noexcept {
    switch (dtype) {
        case DType::q8_0:
            return product<FormatQ8_0>;
        case DType::q4_0:
            return product<FormatQ4_0>;
        case DType::q4_1:
            return product<FormatQ4_1>;
        case DType::q5_0:
            return product<FormatQ5_0>;
        case DType::q5_1:
            return product<FormatQ5_1>;
        case DType::iq4_nl:
            return product<FormatIq4Nl>;
        case DType::mxfp4:
            return product<FormatMxfp4>;
        case DType::q2_k:
            return product<FormatQ2K>;
        case DType::q3_k:
            return product<FormatQ3K>;
        case DType::q4_k:
            return product<FormatQ4K>;
        case DType::q5_k:
            return product<FormatQ5K>;
        case DType::q6_k:
            return product<FormatQ6K>;
        case DType::iq4_xs:
            return product<FormatIq4Xs>;
        default:
            return nullptr;
    }
}

}  // namespace
}  // namespace muster
