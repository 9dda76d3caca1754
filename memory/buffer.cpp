// Host pages for buffers. Knows mmap, not what the bytes are for.
#include "memory/buffer.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <limits>
#include <string>

namespace troupe::memory {
namespace {

constexpr std::int64_t huge_page = 2 << 20;

/// Of a mapping of `bytes` and a huge page more: `bytes` from the first huge page's start on; the rest is given back.
void* trim_to_huge_page(void* mapping, std::int64_t bytes) noexcept {
  const auto first = reinterpret_cast<std::uintptr_t>(mapping);
  const auto start = (first + huge_page - 1) / huge_page * huge_page;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto end = (start + static_cast<std::uintptr_t>(bytes) + page - 1) / page * page;
  const auto last = (first + static_cast<std::uintptr_t>(bytes + huge_page) + page - 1) / page * page;
  if (start > first) ::munmap(mapping, start - first);
  if (last > end) ::munmap(reinterpret_cast<void*>(end), last - end);
  return reinterpret_cast<void*>(start);
}

}  // namespace

result<buffer> allocate_host(std::int64_t bytes, page_size pages) {
  if (bytes < 0 || bytes > std::numeric_limits<std::int64_t>::max() / 2) {
    return error{errc::out_of_memory, "a buffer of " + std::to_string(bytes) + " bytes cannot be had", {}};
  }
  if (bytes == 0) return buffer{};
  // Room to begin where a huge page begins.
  const bool huge = bytes >= huge_page && pages == page_size::huge;
  const std::int64_t mapped = huge ? bytes + huge_page : bytes;
  void* at =
      ::mmap(nullptr, static_cast<std::size_t>(mapped), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) {
    return error{errc::out_of_memory, "no memory for a buffer of " + std::to_string(bytes) + " bytes", {}};
  }
  if (huge) at = trim_to_huge_page(at, bytes);
  // Advice only: a refusal costs nothing.
  if (bytes >= huge_page) ::madvise(at, static_cast<std::size_t>(bytes), huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  return buffer(at, bytes, [bytes](void* p) {
    if (p != nullptr) ::munmap(p, static_cast<std::size_t>(bytes));
  });
}

}  // namespace troupe::memory
