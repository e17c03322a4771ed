// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace muster {

/// xoshiro256** (Blackman, Vigna 2018), seeded through splitmix64. Its four words are its whole
/// state, so that checkpoints can store it. Satisfies UniformRandomBitGenerator.
class Random {
  public:
    using result_type = uint64_t;

    explicit Random(uint64_t seed = 0) noexcept;

    static constexpr uint64_t min() noexcept { return 0; }
    static constexpr uint64_t max() noexcept { return ~uint64_t{0}; }
    uint64_t operator()() noexcept;

    /// Uniform in [0, 1) with 53 bits.
    double uniform() noexcept { return static_cast<double>((*this)() >> 11) * 0x1p-53; }
    /// Uniform in [0, n); n >= 1.
    uint64_t below(uint64_t n) noexcept;
    /// Puts the items into a random order (Fisher, Yates), every one equally likely.
    template <typename T>
    void shuffle(std::span<T> items) noexcept {
        for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
    }
    /// Standard normal (Box-Muller, one of the pair).
    double normal() noexcept;

    std::array<uint64_t, 4> state() const noexcept { return state_; }
    void set_state(const std::array<uint64_t, 4>& state) noexcept { state_ = state; }

  private:
    std::array<uint64_t, 4> state_;
};

/// A well-mixed function of its arguments (splitmix64), for hashes and streams of seeds.
uint64_t mix64(uint64_t x) noexcept;

}  // namespace muster
