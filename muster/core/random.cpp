// SPDX-License-Identifier: Apache-2.0
#include "muster/core/random.h"

#include <bit>
#include <cmath>
#include <numbers>

namespace muster {

uint64_t mix64(uint64_t x) noexcept {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

Random::Random(uint64_t seed) noexcept {
    for (uint64_t& word : state_) {
        word = mix64(seed);
        seed += 0x9e3779b97f4a7c15;
    }
}

uint64_t Random::operator()() noexcept {
    const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = std::rotl(state_[3], 45);
    return result;
}

uint64_t Random::below(uint64_t n) noexcept {
    // Rejection keeps it exactly uniform.
    const uint64_t limit = max() - max() % n;
    uint64_t x = (*this)();
    while (x >= limit) x = (*this)();
    return x % n;
}

double Random::normal() noexcept {
    const double u = 1.0 - uniform();
    return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * uniform());
}

}  // namespace muster
