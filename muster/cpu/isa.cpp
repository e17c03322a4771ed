// SPDX-License-Identifier: Apache-2.0
#include "muster/cpu/isa.h"

#if MUSTER_X86
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <string>

#include "muster/core/error.h"

namespace muster {
namespace {

constexpr std::array<std::string_view, 4> kNames{"generic", "avx2", "avx512", "amx"};

#if MUSTER_X86
// clang 16 has no name for it in __builtin_cpu_supports.
bool has_f16c() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

// Tile registers are 8 KB that Linux saves only for processes that have asked (Documentation/
// arch/x86/xstate.rst). clang 16 has no names for these either.
bool has_amx() {
    constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kBf16) != 0 && (d & kTile) != 0 &&
           syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

std::vector<Isa> detect() {
    std::vector<Isa> found{Isa::generic};
#if MUSTER_X86
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    const bool avx512 =
        avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
    if (avx2) found.push_back(Isa::avx2);
    if (avx512) found.push_back(Isa::avx512);
    if (avx512 && has_amx()) found.push_back(Isa::amx);
#endif
    return found;
}

// The one piece of process-wide state: which of several equivalent kernels runs.
std::atomic<Isa>& current() noexcept {
    static std::atomic<Isa> isa{available_isas().back()};
    return isa;
}

}  // namespace

std::string_view isa_name(Isa isa) noexcept { return kNames[static_cast<size_t>(isa)]; }

const std::vector<Isa>& available_isas() {
    static const std::vector<Isa> isas = detect();
    return isas;
}

Isa current_isa() noexcept { return current().load(std::memory_order_relaxed); }

void set_isa(Isa isa) {
    const std::vector<Isa>& isas = available_isas();
    if (std::find(isas.begin(), isas.end(), isa) == isas.end()) {
        throw Error("isa", "this CPU (or build) cannot execute " + std::string(isa_name(isa)) +
                               ", its strongest set is " + std::string(isa_name(isas.back())));
    }
    current().store(isa, std::memory_order_relaxed);
}

Isa parse_isa(std::string_view name) {
    for (size_t i = 0; i < kNames.size(); ++i) {
        if (kNames[i] == name) return static_cast<Isa>(i);
    }
    throw Error("isa", "unknown instruction set '" + std::string(name) +
                           "', expected generic, avx2, avx512 or amx");
}

}  // namespace muster
