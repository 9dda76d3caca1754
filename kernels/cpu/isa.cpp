// Reads cpuid once per question: cheap enough, and no global to initialise. Knows no kernel.
#include "kernels/cpu/isa.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <array>
#include <cstdint>

namespace troupe::kernels {
namespace {

constexpr std::array all_isas{isa::scalar, isa::avx2, isa::avx_vnni, isa::avx512vnni, isa::avx512bf16};

#if defined(__x86_64__)
struct cpu_bits {
  bool avx2 = false;
  bool avx_vnni = false;
  bool avx512vnni = false;
  bool avx512bf16 = false;
};

std::uint64_t saved_state() noexcept {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

constexpr bool bit(std::uint32_t word, int index) noexcept { return (word >> index & 1) != 0; }

// Bit numbers: Intel SDM volume 2, CPUID, leaves 1 and 7.
cpu_bits read_cpu() noexcept {
  cpu_bits bits;
  std::uint32_t a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || !bit(c, 27)) return bits;
  const std::uint64_t state = saved_state();
  const bool ymm = (state & 0x6) == 0x6;
  const bool zmm = (state & 0xe6) == 0xe6;
  const bool fma_f16c = bit(c, 12) && bit(c, 29);
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return bits;
  const std::uint32_t leaves = a;
  bits.avx2 = ymm && fma_f16c && bit(b, 5);
  const bool avx512_base = bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31);  // F, DQ, BW, VL
  bits.avx512vnni = zmm && bits.avx2 && avx512_base && bit(c, 11);
  if (leaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0) {
    bits.avx_vnni = bits.avx2 && bit(a, 4);
    bits.avx512bf16 = bits.avx512vnni && bit(a, 5);
  }
  return bits;
}
#endif

}  // namespace

std::string_view to_string(isa which) noexcept {
  switch (which) {
    case isa::scalar:
      return "scalar";
    case isa::avx2:
      return "avx2";
    case isa::avx_vnni:
      return "avx_vnni";
    case isa::avx512vnni:
      return "avx512vnni";
    case isa::avx512bf16:
      return "avx512bf16";
  }
  return "?";
}

std::optional<isa> parse_isa(std::string_view name) noexcept {
  for (const isa which : all_isas)
    if (to_string(which) == name) return which;
  return std::nullopt;
}

bool machine_has(isa which) noexcept {
  if (which == isa::scalar) return true;
#if defined(__x86_64__)
  const cpu_bits bits = read_cpu();
  if (which == isa::avx2) return bits.avx2;
  if (which == isa::avx_vnni) return bits.avx_vnni;
  if (which == isa::avx512vnni) return bits.avx512vnni;
  if (which == isa::avx512bf16) return bits.avx512bf16;
#endif
  return false;
}

std::vector<isa> available_isas() {
  std::vector<isa> found;
  for (const isa which : all_isas)
    if (machine_has(which)) found.push_back(which);
  return found;
}

isa best_isa() noexcept {
  isa best = isa::scalar;
  for (const isa which : all_isas)
    if (machine_has(which)) best = which;
  return best;
}

}  // namespace troupe::kernels
