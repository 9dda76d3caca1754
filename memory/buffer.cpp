// Host pages for buffers. Knows mmap, not what the bytes are for.
#include "memory/buffer.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <limits>
#include <string>

namespace troupe::memory {
namespace {

constexpr std::int64_t huge_page = 2 << 20;

}  // namespace

result<buffer> allocate_host(std::int64_t bytes, page_size pages) {
  if (bytes < 0 || bytes > std::numeric_limits<std::int64_t>::max() / 2) {
    return error{errc::out_of_memory, "a buffer of " + std::to_string(bytes) + " bytes cannot be had", {}};
  }
  if (bytes == 0) return buffer{};
  void* at = ::mmap(nullptr, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) {
    return error{errc::out_of_memory, "no memory for a buffer of " + std::to_string(bytes) + " bytes", {}};
  }
  // Advice only: a refusal costs nothing.
  if (bytes >= huge_page) ::madvise(at, static_cast<std::size_t>(bytes), pages == page_size::huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  return buffer(at, bytes, [bytes](void* p) {
    if (p != nullptr) ::munmap(p, static_cast<std::size_t>(bytes));
  });
}

}  // namespace troupe::memory
