// KV blocks that go to pinned host memory and come back, byte for byte, beside a model of both in plain vectors.
#include <algorithm>
#include <cstdio>
#include <random>
#include <thread>
#include <vector>

#include "kernels/cuda/kv_copies.hpp"
#include "kernels/cuda/stream_lane.hpp"
#include "tests/support/random_seed.hpp"

using namespace troupe;
using namespace troupe::kernels;
using bytes = std::vector<std::byte>;

namespace {

constexpr std::int32_t blocks = 96, places = 160;

bytes read(const std::byte* from, std::int64_t count) {
  bytes all(static_cast<std::size_t>(count));
  cudaMemcpy(all.data(), from, all.size(), cudaMemcpyDeviceToHost);
  return all;
}

/// Copies of random blocks and places, both ways at once as the store orders them: no block or place is in two of them.
int differing_blocks(const char* format, unsigned seed) {
  auto lane = cuda::make_cuda_lane({{}, format});
  auto kv = lane ? (*lane)->make_kv({3, 2, 128}, blocks) : result<std::unique_ptr<kv_arena>>(lane.why());
  if (!kv) return -1;
  const cuda::kv_layout layout = static_cast<const cuda::cuda_kv&>(**kv).layout();
  const std::int64_t size = layout.block_bytes();
  auto copies = cuda::make_kv_copies(**kv, size * places + size / 2);
  if (!copies || (*copies)->places != places || (*copies)->block_bytes != size) return -1;
  std::mt19937 random(seed);
  std::vector<bytes> device(blocks, bytes(static_cast<std::size_t>(size))), host(places);
  for (std::int32_t i = 0; i < blocks; ++i) {
    bytes& block = device[static_cast<std::size_t>(i)];
    for (std::byte& one : block) one = static_cast<std::byte>(random());
    cudaMemcpy(layout.base + i * size, block.data(), block.size(), cudaMemcpyHostToDevice);
  }
  cudaDeviceSynchronize();  // copies of pageable memory are over for the default stream alone
  int differing = 0;
  for (int round = 0; round < 60; ++round) {
    std::vector<std::int32_t> block_order(blocks), place_order(places);
    for (std::int32_t i = 0; i < blocks; ++i) block_order[static_cast<std::size_t>(i)] = i;
    for (std::int32_t i = 0; i < places; ++i) place_order[static_cast<std::size_t>(i)] = i;
    std::shuffle(block_order.begin(), block_order.end(), random);
    std::shuffle(place_order.begin(), place_order.end(), random);
    std::vector<memory::block_copy> out, in;
    for (std::size_t i = 0; i < 48; ++i) out.push_back({block_order[i], place_order[i]});
    for (std::size_t i = 48; i < 90; ++i)
      if (!host[static_cast<std::size_t>(place_order[i])].empty()) in.push_back({block_order[i], place_order[i]});
    bool well = true;
    std::thread other([&] { well = (*copies)->make(memory::copy_way::in, in).ok(); });
    const bool sent = (*copies)->make(memory::copy_way::out, out).ok();
    other.join();
    if (!well || !sent) return -1;
    for (const auto [block, place] : out)
      host[static_cast<std::size_t>(place)] = device[static_cast<std::size_t>(block)];
    for (const auto [block, place] : in)
      device[static_cast<std::size_t>(block)] = host[static_cast<std::size_t>(place)];
    for (std::int32_t i = 0; i < blocks; ++i)
      differing += read(layout.base + i * size, size) != device[static_cast<std::size_t>(i)] ? 1 : 0;
  }
  return differing;
}

}  // namespace

int main() {
  int failed = 0;
  for (const char* format : {"bf16", "fp8", "q8_0"}) {
    const int differing = differing_blocks(format, 5 + troupe::test::random_seed());
    std::printf("%-5s %d blocks differ after 60 rounds of copies out and in\n", format, differing);
    failed += differing != 0 ? 1 : 0;
  }
  const auto none = [] {
    auto lane = cuda::make_cuda_lane();
    auto kv = (*lane)->make_kv({3, 2, 128}, 4);
    return cuda::make_kv_copies(**kv, 1);
  }();
  if (none || none.why().code != errc::out_of_memory)
    std::printf("memory for less than a block is not refused\n"), ++failed;
  return failed;
}
