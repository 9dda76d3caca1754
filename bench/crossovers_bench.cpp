// A manual tool: what product_limits and a lone stream of weights are worth on this machine. For each limit, the time
// of products with values around it, taken in turn: crossovers_bench [threads] [isa]. Prints the least of many runs.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/machine_limits.hpp"
#include "kernels/cpu/product_runner.hpp"

namespace {

using namespace troupe;
using kernels::product_limits;
using memory::dtype;

constexpr std::int64_t never = std::int64_t{1} << 40;

class products {
public:
  products(int threads, kernels::isa which)
      : team_(threads), ways_(which), weights_(team_, true, 0, {}), set_(kernels::kernels_for(which)) {}

  /// Microseconds of one product with `rows` rows of weights, for each of the limits; so many matrices take turns.
  std::vector<double> times(dtype type, std::int64_t rows, std::int64_t cols, std::int64_t tokens,
                            std::span<const product_limits> limits, int matrices) {
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(rows * memory::row_size(type, cols)), 0x1c);
    const memory::tensor_view view{bytes.data(), type, rows, cols, memory::row_size(type, cols)};
    std::vector<kernels::matrix> packed;
    for (int i = 0; i < matrices; ++i) packed.push_back(weights_.pack(std::array{view}).value_or_throw());
    std::vector<float> x(static_cast<std::size_t>(tokens * cols), 0.5f), out(static_cast<std::size_t>(tokens * rows));
    std::deque<kernels::product_runner> runners;
    for (const product_limits& one : limits) runners.emplace_back(set_, ways_, team_, weights_, one);
    std::vector<double> best(limits.size(), 1e9);
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(400);
    do {
      for (std::size_t i = 0; i < runners.size(); ++i) {
        const auto start = std::chrono::steady_clock::now();
        for (const kernels::matrix& w : packed)
          runners[i].run({.w = static_cast<const kernels::cpu_matrix*>(w.get()),
                          .x = {x.data(), dtype::f32, tokens, cols, cols * 4},
                          .out = {out.data(), dtype::f32, tokens, rows, rows * 4}});
        const double took = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
        best[i] = std::min(best[i], took / matrices);
      }
    } while (std::chrono::steady_clock::now() < until);
    return best;
  }

private:
  kernels::thread_team team_;
  kernels::product_ways ways_;
  kernels::weight_store weights_;
  const kernels::kernel_set& set_;
};

void print(const std::vector<double>& times) {
  for (const double one : times) std::printf(" %8.1f", one);
  std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  const kernels::isa which = argc > 2 ? kernels::parse_isa(argv[2]).value_or(kernels::best_isa()) : kernels::best_isa();
  products all(threads, which);

  std::printf("lone_weight_bytes: us of a product with Q4_1 weights of so many KiB, by one thread, by all\n");
  for (const std::int64_t rows : {16, 32, 64, 96, 128, 192, 384}) {
    const product_limits ways[] = {{.lone_weight_bytes = never}, {.lone_weight_bytes = 0}};
    for (const std::int64_t tokens : {1, 8}) {
      std::printf("%6.0f KiB, %lld tokens", static_cast<double>(rows * memory::row_size(dtype::q4_1, 576)) / 1024,
                  static_cast<long long>(tokens));
      print(all.times(dtype::q4_1, rows, 576, tokens, ways, 16));
    }
  }

  std::printf("input_bytes_at_once: us of a product with 512 tokens, 64, 128, 256, 512 KiB, 1, 2 MiB at once\n");
  const struct {
    dtype type;
    std::int64_t rows, cols;
  } shapes[] = {
      {dtype::q4_1, 576, 1536}, {dtype::q8_0, 1024, 3072}, {dtype::q4_k, 2048, 2048}, {dtype::bf16, 1024, 2048}};
  for (const auto& [type, rows, cols] : shapes) {
    std::vector<product_limits> ways;
    for (const std::int64_t kib : {64, 128, 256, 512, 1024, 2048}) ways.push_back({.input_bytes_at_once = kib * 1024});
    std::printf("%s, %lld x %lld", std::string(memory::info(type).name).c_str(), static_cast<long long>(rows),
                static_cast<long long>(cols));
    print(all.times(type, rows, cols, 512, ways, 1));
  }

  std::printf(
      "lone_stream_tokens (a constant: build with others to compare): us of a product with 1 to 6 tokens, weights from "
      "memory\n");
  for (const dtype type : {dtype::q4_1, dtype::q8_0}) {
    std::printf("%s", std::string(memory::info(type).name).c_str());
    const product_limits usual[] = {{}};
    std::vector<double> times;
    for (std::int64_t tokens = 1; tokens <= 6; ++tokens)
      times.push_back(all.times(type, 1536, 576, tokens, usual, 160).front());
    print(times);
  }

  std::printf("least_dealt, most_dealt: us of a product of the default model's kind (Q4_1), shared out, dealt\n");
  for (const std::int64_t tokens : {2, 4, 8, 12, 16, 24, 32, 64, 128, 256}) {
    const product_limits ways[] = {{.least_dealt = never}, {.least_dealt = 1, .most_dealt = never}};
    std::printf("%lld tokens", static_cast<long long>(tokens));
    print(all.times(dtype::q4_1, 1536, 576, tokens, ways, 30));
  }
}
