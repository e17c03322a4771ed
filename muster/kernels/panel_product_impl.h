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
#include <cstring>
#include <utility>

#include "muster/kernels/panel_formats_impl.h"

namespace muster {
namespace {

constexpr int kGroups = kPanelChunk / 32;

/// A chunk with one byte a value, and its scales and minima.
template <ActivationScale kScaleOver, bool kHalvesOf, bool kMinOf, int kZeroBitsOf>
struct Unpacked {
    static constexpr ActivationScale kScale = kScaleOver;
    static constexpr bool kHalves = kHalvesOf, kMin = kMinOf;
    static constexpr int kZeroBits = kZeroBitsOf;
    static constexpr int kScales = kHalves ? 2 : 1;

    alignas(64) uint8_t values[kGroups * 8][kPanelRows][4];
    alignas(64) float scales[kGroups * kScales][kPanelRows];
    alignas(64) float minima[kMin ? kGroups * kScales : 1][kPanelRows];

    struct Lanes {
        static constexpr ActivationScale kScale = kScaleOver;
        static constexpr bool kHalves = kHalvesOf, kMin = kMinOf;
        static constexpr int kZeroBits = kZeroBitsOf;
        const Unpacked* chunk;
        int lane;
        I quants(int g, int i) const noexcept { return IVec::load(chunk->values[8 * g + i][lane]); }
        F scale(int g, int half) const noexcept {
            return Vec::load(chunk->scales[g * kScales + half] + lane);
        }
        F min(int g, int half) const noexcept {
            return Vec::load(chunk->minima[g * kScales + half] + lane);
        }
    };

    template <typename Format>
    [[gnu::always_inline]] void unpack_group(const Format& f, int g, int lane) noexcept {
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) IVec::store(values[8 * g + i][lane], f.quants(g, i));
#pragma GCC unroll 2
        for (int half = 0; half < kScales; ++half) {
            Vec::store(scales[g * kScales + half] + lane, f.scale(g, half));
            if constexpr (kMin) Vec::store(minima[g * kScales + half] + lane, f.min(g, half));
        }
    }

    template <typename Format>
    void fill(const std::byte* packed, int blocks) noexcept {
        for (int lane = 0; lane < kPanelRows; lane += Vec::kLanes) {
            const Format f(packed, blocks, lane);
            if constexpr (kScale == ActivationScale::per_256) {
#pragma GCC unroll 8
                for (int g = 0; g < kGroups; ++g) unpack_group(f, g, lane);
            } else {
                for (int g = 0; g < blocks; ++g) unpack_group(f, g, lane);
            }
        }
    }
};

template <typename Format>
using UnpackedOf = Unpacked<Format::kScale, Format::kHalves, Format::kMin, Format::kZeroBits>;

/// Sums of kRows activation rows with kVecs vectors of weight rows. The sums of vector v and
/// activation row t go to c + v * stride + t * 16.
template <typename Source, int kRows, int kVecs>
class Tile {
  public:
    [[gnu::always_inline]] void run(const Source* w, int groups, const QuantizedChunk* const* x,
                                    int64_t chunk, float* c, int64_t stride) noexcept {
#pragma GCC unroll 16
        for (int t = 0; t < kRows; ++t) {
            x_[t] = x[t] + chunk;
#pragma GCC unroll 4
            for (int v = 0; v < kVecs; ++v) sums_[t][v] = Vec::zero();
        }
        if constexpr (Source::kScale == ActivationScale::per_256) {
            (void)groups;
#pragma GCC unroll 8
            for (int g = 0; g < kGroups; ++g) group(w, g);
        } else {
            for (int g = 0; g < groups; ++g) group(w, g);
        }
#pragma GCC unroll 16
        for (int t = 0; t < kRows; ++t) {
            const F scale = Source::kScale == ActivationScale::per_256
                                ? Vec::broadcast(x_[t]->scale)
                                : Vec::set1(1.0f);
#pragma GCC unroll 4
            for (int v = 0; v < kVecs; ++v) {
                float* out = c + v * stride + t * kPanelRows;
                Vec::store(out, Vec::fma(sums_[t][v], scale, Vec::load(out)));
            }
        }
    }

  private:
    static constexpr bool kSigned = !IVec::kWideDot && Source::kZeroBits == 7;
    static constexpr int kScales = Source::kHalves ? 2 : 1;
    using Dots = I[kRows][kVecs];

    [[gnu::always_inline]] void group(const Source* w, int g) noexcept {
#pragma GCC unroll 2
        for (int half = 0; half < kScales; ++half) {
            Dots dots;
#pragma GCC unroll 16
            for (int t = 0; t < kRows; ++t) {
                const I first = start(t, g, half);
#pragma GCC unroll 4
                for (int v = 0; v < kVecs; ++v) dots[t][v] = first;
            }
#pragma GCC unroll 8
            for (int i = 0; i < 8 / kScales; ++i) step(w, g, 8 / kScales * half + i, dots);
#pragma GCC unroll 4
            for (int v = 0; v < kVecs; ++v) scale(w[v], v, g, half, dots);
        }
    }

    /// The sum's share of the weights' zero: -2^kZeroBits times the activations.
    [[gnu::always_inline]] I start(int t, int g, int half) const noexcept {
        if constexpr (kSigned || Source::kZeroBits < 0) return IVec::zero();
        const int32_t* sum =
            Source::kHalves ? x_[t]->minus_sum16 + 2 * g + half : x_[t]->minus_sum32 + g;
        return IVec::left(IVec::broadcast(sum), Source::kZeroBits < 0 ? 0 : Source::kZeroBits);
    }

    [[gnu::always_inline]] void step(const Source* w, int g, int i, Dots& dots) const noexcept {
        I q[kVecs];
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) {
            q[v] = w[v].quants(g, i);
            if constexpr (kSigned) q[v] = IVec::xor_(q[v], IVec::bytes(0x80));
        }
#pragma GCC unroll 16
        for (int t = 0; t < kRows; ++t) {
            const I x = IVec::broadcast(x_[t]->q + 32 * g + 4 * i);
#pragma GCC unroll 4
            for (int v = 0; v < kVecs; ++v) {
                dots[t][v] = kSigned ? IVec::dot_signed(dots[t][v], q[v], x)
                                     : IVec::dot(dots[t][v], q[v], x);
            }
        }
    }

    [[gnu::always_inline]] void scale(const Source& w, int v, int g, int half,
                                      const Dots& dots) noexcept {
        const F scale = w.scale(g, half);
#pragma GCC unroll 16
        for (int t = 0; t < kRows; ++t) {
            const F both = Source::kScale == ActivationScale::per_32
                               ? Vec::mul(scale, Vec::broadcast(x_[t]->scale + g))
                               : scale;
            sums_[t][v] = Vec::fma(IVec::to_float(dots[t][v]), both, sums_[t][v]);
        }
        if constexpr (Source::kMin) {
            const F min = w.min(g, half);
#pragma GCC unroll 16
            for (int t = 0; t < kRows; ++t) {
                const float* sum = Source::kHalves ? x_[t]->sum16 + 2 * g + half : x_[t]->sum32 + g;
                sums_[t][v] = Vec::fma(min, Vec::broadcast(sum), sums_[t][v]);
            }
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
    const int groups = Format::kScale == ActivationScale::per_256 ? kGroups : blocks;
    for (int lane = 0; lane < kPanelRows; lane += Vec::kLanes) {
        const Format f(packed, blocks, lane);
        Tile<Format, kRows, 1>().run(&f, groups, x, chunk, c + lane, 0);
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
    explicit Product(const PanelProduct& p) noexcept : p_(p) {}

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
    static constexpr bool kSuper = Format::kScale == ActivationScale::per_256;
    static constexpr int kChunkBlocks = kSuper ? 1 : kGroups;
    static constexpr auto kTiles =
        tile_table<Chunk, kTilePanels>(std::make_integer_sequence<int, kTileRows>());
    static constexpr auto kLastTiles =
        tile_table<Chunk, 1>(std::make_integer_sequence<int, kTileRows>());
    // How far ahead of its use a packed chunk is fetched, into the second-level cache: more than
    // the first one can wait for at once.
    static constexpr int64_t kAheadBytes = 8 << 10;

    /// Adds the products of all chunks of some panels with rows [first, first + count).
    void add_chunks(int64_t row, int panels, int64_t first, int64_t count, float* sums) noexcept {
        const DTypeInfo& info = dtype_info(p_.w.dtype);
        const int64_t blocks = p_.w.cols / info.block_elements;
        const QuantizedChunk* const* x = p_.x + first;
        for (int64_t b = 0, chunk = 0; b < blocks; b += kChunkBlocks, ++chunk) {
            const int n = static_cast<int>(blocks - b < kChunkBlocks ? blocks - b : kChunkBlocks);
            for (int p = 0; p < panels; ++p) {
                alignas(64) std::byte packed[kPanelRows * kPanelChunk * 34 / 32];
                const std::byte* at =
                    packed_chunk(row + p * kPanelRows, b, n, first == 0 ? panels : 0, packed);
                if (count <= kPackedRows) {
                    packed_tiles(at, n, chunk, x, count, sums);
                } else {
                    unpacked_[p].template fill<Format>(at, n);
                }
            }
            if (count > kPackedRows) unpacked_tiles(panels, n, chunk, x, count, sums);
        }
    }

    /// Blocks [block, block + count) of the panel that starts with `row`; `space` for interleaving.
    /// Fetches what comes next, `panels` at a time (0: nothing).
    const std::byte* packed_chunk(int64_t row, int64_t block, int count, int panels,
                                  std::byte* space) const noexcept {
        const int64_t block_bytes = dtype_info(p_.w.dtype).block_bytes;
        const std::byte* at = p_.w.row(row);
        if (p_.w.layout == WeightLayout::panels) {
            at += kPanelRows * block * block_bytes;
            const int64_t ahead = panels > 1 ? panels * kPanelRows * p_.w.row_bytes() : kAheadBytes;
            if (panels > 0) prefetch(at + ahead, kPanelRows * count * block_bytes);
            return at;
        }
        const auto rows =
            static_cast<int>(p_.w.rows - row < kPanelRows ? p_.w.rows - row : kPanelRows);
        pack_chunk(p_.w.dtype, at + block * block_bytes, p_.w.row_bytes(), rows, count, space);
        return space;
    }

    void write(int64_t row, int64_t first, int64_t count, const float* sums) const noexcept {
        const int64_t cols = p_.last - row < kPanelRows ? p_.last - row : kPanelRows;
        for (int64_t i = 0; i < count; ++i) {
            std::memcpy(p_.out + (first + i) * p_.ldo + row - p_.first, sums + i * kPanelRows,
                        static_cast<size_t>(cols) * sizeof(float));
        }
    }

    static void prefetch(const std::byte* p, int64_t bytes) noexcept {
        for (int64_t line = 0; line < bytes; line += 64) {
            _mm_prefetch(reinterpret_cast<const char*>(p) + line, _MM_HINT_T1);
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
