// Products of a size as models have them, fewer weights where rows are many.
#include "kernels/cpu/way_meter.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <iterator>
#include <limits>

#include "kernels/cpu/product_runner.hpp"
#include "memory/buffer.hpp"

namespace troupe::kernels {
namespace {

using clock = std::chrono::steady_clock;
using memory::dtype;

constexpr std::int64_t cols = 1024, rows_for_one = 2048, rows_for_many = 1024;
constexpr std::int32_t many_tokens = 16;
constexpr int rounds = 3;
constexpr auto long_sweep = std::chrono::milliseconds(50);
constexpr std::int64_t hopeless = 2;  // times as long as the best
constexpr double restless = 1.25;     // times as long as it need be
constexpr int most_are_calm = 6;      // of costed_rows
constexpr std::int64_t untimed = std::numeric_limits<std::int64_t>::max();

/// Bytes that are a small number in every type, whole and as a scale.
constexpr int weight_byte = 0x3c;

cpu_matrix made_up(dtype type, std::int64_t rows, const std::byte* tiles) {
  cpu_matrix w;
  w.rows = rows;
  w.cols = cols;
  w.tiles = tiles_of(rows);
  w.bytes = w.tiles * tile_bytes(type, cols);
  w.any_quantised = is_quantised(type);
  w.any_bf16 = type == dtype::bf16;
  w.any_float = type == dtype::f16 || type == dtype::f32;
  w.parts.push_back({{nullptr, type, rows, cols, memory::row_size(type, cols)}, nullptr, tiles, 0, 0});
  return w;
}

/// What the ways differ in: nothing else is asked of a set.
product_ways only(dtype type, product_way way) {
  product_ways ways(way.set);
  for (std::size_t at = 0; at < costed_rows.size(); ++at) ways.set(type, at, way);
  return ways;
}

/// Costs of one number of rows, and how they came about.
struct timed_costs {
  std::vector<way_cost> costs;
  std::vector<std::vector<std::int64_t>> times;  ///< each time of each

  std::size_t fastest() const {
    const auto least = std::min_element(
        costs.begin(), costs.end(), [](const way_cost& a, const way_cost& b) { return a.nanoseconds < b.nanoseconds; });
    return static_cast<std::size_t>(least - costs.begin());
  }
  /// The usual time of the fastest is not much more than its least one.
  bool calm() const {
    auto sorted = times[fastest()];
    std::sort(sorted.begin(), sorted.end());
    return static_cast<double>(sorted[sorted.size() / 2]) < restless * static_cast<double>(sorted.front());
  }
};

class meter {
public:
  meter(thread_team& team, dtype type, std::span<const isa> usable, const std::byte* tiles)
      : type_(type), unmeasured_(usable.back()), tiles_(tiles), ways_(usable.back()), weights_(team, true, 0, {}),
        runner_(kernels_for(usable.back()), ways_, team, weights_) {
    for (std::size_t i = 0; i < x_.size(); ++i) x_[i] = static_cast<float>(i % 13) - 6.0f;
  }

  /// Costs become less where they were too high. A set's own way comes before its others.
  void sweep(timed_costs& of) {
    const std::int64_t tokens = of.costs.front().rows, rows = tokens < many_tokens ? rows_for_one : rows_for_many;
    const cpu_matrix w = made_up(type_, rows, tiles_);
    const product_call call{.w = &w,
                            .x = {x_.data(), dtype::f32, tokens, cols, cols * 4},
                            .out = {out_.data(), dtype::f32, tokens, rows, rows * 4}};
    std::int64_t best = untimed;
    for (const way_cost& one : of.costs) best = std::min(best, one.nanoseconds);
    for (int round = 0; round < rounds; ++round) {
      std::int64_t of_set = untimed;
      for (std::size_t i = 0; i < of.costs.size(); ++i) {
        way_cost& one = of.costs[i];
        const bool own = one.way == way_of(one.way.set), known = one.nanoseconds != untimed;
        const bool twice =
            of.times[i].size() > 1 && one.way != unmeasured_.way(type_, tokens);  // else no misfortune counts
        if (best != untimed && (twice ? one.nanoseconds : known || own ? 0 : of_set) / hopeless > best) continue;
        ways_ = only(type_, one.way);
        if (!known) runner_.run(call);  // to warm up
        const auto start = clock::now();
        runner_.run(call);
        const std::int64_t took =
            std::chrono::nanoseconds(clock::now() - start).count() * (std::int64_t{1} << 20) / (rows * cols);
        one.nanoseconds = std::max<std::int64_t>(1, std::min(one.nanoseconds, took));
        of.times[i].push_back(took);
        best = std::min(best, one.nanoseconds);
        if (own) of_set = one.nanoseconds;
      }
    }
  }

private:
  dtype type_;
  product_ways unmeasured_;
  const std::byte* tiles_;
  product_ways ways_;
  weight_store weights_;
  product_runner runner_;
  std::vector<float> x_ = std::vector<float>(static_cast<std::size_t>(costed_rows.back() * cols));
  std::vector<float> out_ = std::vector<float>(static_cast<std::size_t>(costed_rows.back() * rows_for_one));
};

}  // namespace

std::vector<way_cost> measure_ways(thread_team& team, dtype type, std::span<const isa> usable) {
  if (ways_for(type, costed_rows.back(), usable).size() < 2) return {};
  const std::int64_t bytes = tiles_of(rows_for_one) * tile_bytes(type, cols);
  auto tiles = memory::allocate_host(bytes);
  if (!tiles) return {};
  auto* data = static_cast<std::byte*>(tiles->data());
  team.run([&](int thread, int threads) {
    const share mine = team.share_of(bytes, thread, threads);
    std::memset(data + mine.first, weight_byte, static_cast<std::size_t>(mine.last - mine.first));
  });
  meter of_type(team, type, usable, data);
  std::array<timed_costs, costed_rows.size()> all;
  for (std::size_t at = 0; at < all.size(); ++at) {
    for (const product_way way : ways_for(type, costed_rows[at], usable))
      all[at].costs.push_back({type, costed_rows[at], way, untimed});
    all[at].times.resize(all[at].costs.size());
  }
  const product_ways unmeasured(usable.back());
  const auto start = clock::now();
  for (int sweep = 0; sweep < 2; ++sweep) {  // what disturbs one sweep is over in the next
    if (sweep > 0 && clock::now() - start > long_sweep) break;
    for (timed_costs& one : all) of_type.sweep(one);
  }
  for (timed_costs& one : all)  // a surprise is looked at again
    if (one.costs[one.fastest()].way != unmeasured.way(type, one.costs.front().rows)) of_type.sweep(one);
  if (std::count_if(all.begin(), all.end(), [](const timed_costs& one) { return one.calm(); }) < most_are_calm)
    return {};
  std::vector<way_cost> costs;
  for (const timed_costs& one : all)
    std::copy_if(one.costs.begin(), one.costs.end(), std::back_inserter(costs),
                 [](const way_cost& cost) { return cost.nanoseconds != untimed; });
  return costs;
}

}  // namespace troupe::kernels
