// FNV-1a with the 64-bit offset basis and prime of its authors.
#include "memory/digest.hpp"

#include <cstdint>
#include <cstdio>

namespace troupe::memory {

std::string digest(std::string_view text) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  char digits[24];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash));
  return digits;
}

}  // namespace troupe::memory
