// The instruction sets that kernels are written for, and which of them this processor may execute.
// Knows no kernel.
//
// TROUPE_ISA names the best set that may be used: what is better is masked and never executed, as if the processor
// lacked it. A word that names none masks nothing (the command line refuses it).
#pragma once

#include <optional>
#include <string_view>
#include <vector>

namespace troupe::kernels {

/// From plain to best, of x86-64 and then of ARM. A machine that has one has, for our purposes, all of those before it,
/// except that the AVX-512 ones do not imply avx_vnni. avx512bf16 is avx512vnni with the bf16 dot product; amx is
/// avx512bf16 with tiles of int8 and bf16. neon is ARMv8.2 with the 8-bit dot product; neon_i8mm has the products of
/// 8-bit matrices too.
enum class isa { scalar, avx2, avx_vnni, avx512vnni, avx512bf16, amx, neon, neon_i8mm };

std::string_view to_string(isa which) noexcept;

/// The inverse of to_string; nothing for any other word.
std::optional<isa> parse_isa(std::string_view name) noexcept;

/// Asks the processor, the operating system (which register state it saves) and the mask. For amx it also asks the
/// kernel for the tiles' 8 KiB of register state, for all threads of this process: without it they would be illegal.
bool machine_has(isa which) noexcept;

/// Every isa that machine_has, plain to best.
std::vector<isa> available_isas();

/// The last of available_isas().
isa best_isa() noexcept;

}  // namespace troupe::kernels
