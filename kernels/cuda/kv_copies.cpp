// A block of all layers is one run of bytes: a copy each. The host waits for their end, so that no stream of the steps
// ever waits for a copy, nor a copy for a step: the store gives orders for blocks that no step touches.
#include "kernels/cuda/kv_copies.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "kernels/cuda/stream_lane.hpp"

namespace troupe::kernels::cuda {
namespace {

/// Commands queued at once. A queue that is full makes its next command wait, and with it whoever wants the driver.
constexpr std::size_t most_queued = 128;

/// Between looks at whether copies have ended. To wait for an interrupt takes 0.4 ms longer than they do (one H200),
/// and to spin takes a core.
constexpr std::chrono::microseconds between_looks{20};

class pinned_copies final : public kv_copies {
public:
  struct one_way {
    stream on;
    event done;
  };

  pinned_copies(std::byte* device, pinned_buffer host, std::array<one_way, 2> ways, std::int64_t bytes_of_block)
      : device_(device), host_(std::move(host)), ways_(std::move(ways)) {
    block_bytes = bytes_of_block;
    places = static_cast<std::int32_t>(host_.bytes() / block_bytes);
  }

  result<void> make(memory::copy_way way, std::span<const memory::block_copy> copies) override {
    while (!copies.empty()) {
      const auto some = copies.first(std::min(copies.size(), most_queued));
      copies = copies.subspan(some.size());
      if (auto r = make_some(way, some); !r) return r;
    }
    return {};
  }

private:
  result<void> make_some(memory::copy_way way, std::span<const memory::block_copy> copies) {
    const one_way& by = ways_[static_cast<std::size_t>(way)];
    const bool out = way == memory::copy_way::out;
    for (const auto [block, place] : copies) {
      std::byte* device = device_ + block * block_bytes;
      std::byte* host = host_.as<std::byte>() + place * block_bytes;
      const auto kind = out ? cudaMemcpyDeviceToHost : cudaMemcpyHostToDevice;
      if (auto r = check(cudaMemcpyAsync(out ? host : device, out ? device : host,
                                         static_cast<std::size_t>(block_bytes), kind, by.on.get()),
                         "copying KV blocks");
          !r)
        return r;
    }
    if (auto r = check(cudaEventRecord(by.done.get(), by.on.get()), "copying KV blocks"); !r) return r;
    cudaError_t state = cudaErrorNotReady;
    while ((state = cudaEventQuery(by.done.get())) == cudaErrorNotReady) std::this_thread::sleep_for(between_looks);
    return check(state, "copying KV blocks");
  }

  std::byte* device_;
  pinned_buffer host_;
  std::array<one_way, 2> ways_;  // by copy_way
};

result<pinned_copies::one_way> make_way() {
  auto on = make_stream();
  if (!on) return on.why();
  auto done = make_event();
  if (!done) return done.why();
  return pinned_copies::one_way{*std::move(on), *std::move(done)};
}

}  // namespace

result<std::unique_ptr<kv_copies>> make_kv_copies(kv_arena& kv, std::int64_t bytes) {
  const kv_layout layout = static_cast<const cuda_kv&>(kv).layout();
  const std::int64_t places = std::min<std::int64_t>(bytes / layout.block_bytes(), std::int64_t{1} << 30);
  if (places < 1)
    return error{errc::out_of_memory,
                 "The " + std::to_string(bytes) + " bytes of host memory for KV are less than one block (" +
                     std::to_string(layout.block_bytes()) + " bytes).",
                 "host_kv_bytes"};
  auto host = allocate_pinned(places * layout.block_bytes());
  if (!host) return host.why();
  auto out = make_way();
  if (!out) return out.why();
  auto in = make_way();
  if (!in) return in.why();
  return std::unique_ptr<kv_copies>(std::make_unique<pinned_copies>(
      layout.base, *std::move(host), std::array{*std::move(out), *std::move(in)}, layout.block_bytes()));
}

}  // namespace troupe::kernels::cuda
