// An owned run of bytes on some device. Knows how to free itself, not what is in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include <troupe/result.hpp>

namespace troupe::memory {

/// Move-only. `data()` is aligned to 64 bytes at least; contents start as zero.
class buffer {
public:
  using deleter = std::function<void(void*)>;
  buffer() = default;
  buffer(void* data, std::int64_t bytes, deleter free) : data_(data, std::move(free)), bytes_(bytes) {}
  void* data() const noexcept { return data_.get(); }
  std::int64_t bytes() const noexcept { return bytes_; }

private:
  std::unique_ptr<void, deleter> data_{nullptr, [](void*) {}};
  std::int64_t bytes_ = 0;
};

/// huge: for what is streamed whole, fewer TLB misses. small: for what is touched here and there, as KV blocks are: a
/// page is zeroed at its first touch, and two megabytes for each head of each layer would cost the first request 0.1 s.
enum class page_size { huge, small };

/// Anonymous pages of the host, zero on first touch; huge ones where the kernel grants them.
result<buffer> allocate_host(std::int64_t bytes, page_size pages = page_size::huge);

}  // namespace troupe::memory
