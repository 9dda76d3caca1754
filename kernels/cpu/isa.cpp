// Reads cpuid once per question: cheap enough, and no global to initialise. Knows no kernel.
#include "kernels/cpu/isa.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include <array>
#include <cstdint>
#include <cstdlib>

namespace troupe::kernels {
namespace {

constexpr std::array all_isas{isa::scalar,     isa::avx2, isa::avx_vnni, isa::avx512vnni,
                              isa::avx512bf16, isa::amx,  isa::neon,     isa::neon_i8mm};

bool masked(isa which) noexcept {
  const char* best = std::getenv("TROUPE_ISA");
  const auto named = best == nullptr ? std::nullopt : parse_isa(best);
  return named && which > *named;
}

struct cpu_bits {
  bool avx2 = false;
  bool avx_vnni = false;
  bool avx512vnni = false;
  bool avx512bf16 = false;
  bool amx = false;
};

#if defined(__x86_64__)
// Linux, asm/prctl.h: dynamically enabled register state. 18 is the tiles' data.
constexpr long arch_get_supported = 0x1021;
constexpr long arch_request = 0x1023;
constexpr long tile_data = 18;

std::uint64_t saved_state() noexcept {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

bool kernel_grants_tiles() noexcept {
  std::uint64_t offered = 0;
  return ::syscall(SYS_arch_prctl, arch_get_supported, &offered) == 0 && (offered >> tile_data & 1) != 0 &&
         ::syscall(SYS_arch_prctl, arch_request, tile_data) == 0;
}

constexpr bool bit(std::uint32_t word, int index) noexcept { return (word >> index & 1) != 0; }

// Bit numbers: Intel SDM volume 2, CPUID, leaves 1 and 7; of the saved state: volume 1, XCR0.
cpu_bits read_cpu() noexcept {
  cpu_bits bits;
  std::uint32_t a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || !bit(c, 27)) return bits;
  const std::uint64_t state = saved_state();
  const bool ymm = (state & 0x6) == 0x6;
  const bool zmm = (state & 0xe6) == 0xe6;
  const bool tiles = (state & 0x60000) == 0x60000;
  const bool fma_f16c = bit(c, 12) && bit(c, 29);
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return bits;
  const std::uint32_t leaves = a;
  bits.avx2 = ymm && fma_f16c && bit(b, 5);
  const bool avx512_base = bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31);  // F, DQ, BW, VL
  bits.avx512vnni = zmm && bits.avx2 && avx512_base && bit(c, 11);
  bits.amx = tiles && bit(d, 22) && bit(d, 24) && bit(d, 25);
  if (leaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0) {
    bits.avx_vnni = bits.avx2 && bit(a, 4);
    bits.avx512bf16 = bits.avx512vnni && bit(a, 5);
  }
  bits.amx = bits.amx && bits.avx512bf16;
  return bits;
}
#else
bool kernel_grants_tiles() noexcept { return false; }
cpu_bits read_cpu() noexcept { return {}; }
#endif

bool has_neon_dots() noexcept {
#if defined(__aarch64__)
  return (::getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return false;
#endif
}

bool has_neon_matrices() noexcept {
#if defined(__aarch64__)
  return has_neon_dots() && (::getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0;
#else
  return false;
#endif
}

}  // namespace

std::string_view to_string(isa which) noexcept {
  switch (which) {
    case isa::scalar: return "scalar";
    case isa::avx2: return "avx2";
    case isa::avx_vnni: return "avx_vnni";
    case isa::avx512vnni: return "avx512vnni";
    case isa::avx512bf16: return "avx512bf16";
    case isa::amx: return "amx";
    case isa::neon: return "neon";
    case isa::neon_i8mm: return "neon_i8mm";
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
  if (masked(which)) return false;
  static const cpu_bits bits = read_cpu();  // in a virtual machine each cpuid costs tens of microseconds
  switch (which) {
    case isa::scalar: return true;
    case isa::avx2: return bits.avx2;
    case isa::avx_vnni: return bits.avx_vnni;
    case isa::avx512vnni: return bits.avx512vnni;
    case isa::avx512bf16: return bits.avx512bf16;
    case isa::amx: return bits.amx && kernel_grants_tiles();
    case isa::neon: return has_neon_dots();
    case isa::neon_i8mm: return has_neon_matrices();
  }
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
