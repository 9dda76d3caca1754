// Copies of a CPU lane's blocks by memcpy, for tests that play a device with host memory behind it. Knows no device.
#pragma once

#include <atomic>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/cpu/kv_arena.hpp"
#include "kernels/kv_copies.hpp"

namespace troupe::test {

/// Each `fail_every`th order fails and leaves garbage; 0: none.
class played_copies final : public kernels::kv_copies {
public:
  played_copies(kernels::cpu_kv_arena& kv, std::int64_t bytes, int fail_every) : kv_(kv), fail_every_(fail_every) {
    block_bytes = kernels::cpu_kv_block_bytes(kv.shape, kv.type);
    places = static_cast<std::int32_t>(bytes / block_bytes);
    host_.resize(static_cast<std::size_t>(places * block_bytes));
  }
  result<void> make(memory::copy_way way, std::span<const memory::block_copy> copies) override {
    const bool fails = fail_every_ > 0 && ++made_ % fail_every_ == 0;
    for (const auto [block, place] : copies) {
      std::byte* device = kv_.unit(block, 0, 0);
      std::byte* host = host_.data() + place * block_bytes;
      std::byte* to = way == memory::copy_way::out ? host : device;
      if (fails) std::memset(to, 0x5a, static_cast<std::size_t>(block_bytes));
      else std::memcpy(to, way == memory::copy_way::out ? device : host, static_cast<std::size_t>(block_bytes));
    }
    if (fails) return error{errc::internal, "the bus is out of order", {}};
    return {};
  }

private:
  kernels::cpu_kv_arena& kv_;
  std::vector<std::byte> host_;
  int fail_every_;
  std::atomic<int> made_{0};
};

inline kernels::kv_copies_maker play_copies(int fail_every = 0) {
  return [fail_every](kernels::kv_arena& kv, std::int64_t bytes) -> result<std::unique_ptr<kernels::kv_copies>> {
    return std::unique_ptr<kernels::kv_copies>(
        std::make_unique<played_copies>(static_cast<kernels::cpu_kv_arena&>(kv), bytes, fail_every));
  };
}

}  // namespace troupe::test
