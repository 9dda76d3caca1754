// Measures how fast a GGUF file's weights come onto the device, beside what the bus and reading the file alone allow.
// bench_cuda_load FILE. The file should have been read before, so that no disk is measured.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "kernels/cuda/cuda_lane.hpp"
#include "kernels/cuda/device.hpp"
#include "memory/mapped_file.hpp"
#include "models/model.hpp"

namespace {

using namespace troupe;

double seconds(const std::function<void()>& work) {
  const auto began = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

/// GB/s of pinned memory to the device.
double bus_rate() {
  constexpr std::int64_t bytes = 64 << 20;
  const auto host = kernels::cuda::allocate_pinned(bytes).value_or_throw();
  const auto device = kernels::cuda::allocate_device(bytes).value_or_throw();
  const auto on = kernels::cuda::make_stream().value_or_throw();
  const double taken = seconds([&] {
    for (int i = 0; i < 64; ++i)
      static_cast<void>(cudaMemcpyAsync(device.data(), host.data(), bytes, cudaMemcpyHostToDevice, on.get()));
    static_cast<void>(cudaStreamSynchronize(on.get()));
  });
  return 64e-9 * bytes / taken;
}

/// GB/s of a file that is in memory, by eight threads into pinned buffers.
double file_rate(const memory::mapped_file& file) {
  constexpr std::int64_t bytes = 4 << 20;
  constexpr int readers = 8;
  const auto host = kernels::cuda::allocate_pinned(readers * bytes).value_or_throw();
  const double taken = seconds([&] {
    std::vector<std::thread> threads;
    for (int i = 0; i < readers; ++i)
      threads.emplace_back([&, i] {
        for (std::int64_t at = i * bytes; at + bytes <= file.size(); at += readers * bytes)
          if (!file.read(at, {host.as<std::byte>() + i * bytes, static_cast<std::size_t>(bytes)})) std::exit(1);
      });
    for (auto& thread : threads) thread.join();
  });
  return static_cast<double>(file.size()) * 1e-9 / taken;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const auto lane = kernels::cuda::make_cuda_lane().value_or_throw();
  const auto file = memory::mapped_file::open(argv[1]).value_or_throw();
  static_cast<void>(file_rate(file));  // now it is in memory
  for (int i = 0; i < 3; ++i) {
    const double bus = bus_rate(), read = file_rate(file);
    std::shared_ptr<const models::loaded_model> model;
    const double taken = seconds([&] { model = models::load_model(argv[1], *lane).value_or_throw(); });
    const double rate = static_cast<double>(file.size()) * 1e-9 / taken;
    std::printf("%.2f GB in %.3f s: %.1f GB/s; bus %.1f, file %.1f: share %.2f\n",
                static_cast<double>(file.size()) * 1e-9, taken, rate, bus, read, rate / std::min(bus, read));
  }
}
