// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>
#include <vector>

namespace muster {

/// Instruction sets that kernels are written for, weakest first.
/// avx512: F, BW, VL, DQ, VNNI and BF16. amx: the same and tile products of bf16; whatever has no
/// kernel of its own for it runs as avx512.
enum class Isa { generic, avx2, avx512, amx };

std::string_view isa_name(Isa isa) noexcept;

/// The sets this CPU (and this build) can execute, weakest first; always contains generic.
const std::vector<Isa>& available_isas();

/// The strongest available set, or the one named by set_isa().
Isa current_isa() noexcept;

/// Makes kernels use `isa` from now on, for tests and for comparing; throws Error when this CPU
/// lacks it. Not to be called while kernels run.
void set_isa(Isa isa);

/// Parses `generic`, `avx2`, `avx512`, `amx`; throws Error otherwise.
Isa parse_isa(std::string_view name);

}  // namespace muster
