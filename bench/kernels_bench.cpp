// A manual tool: the time of each op at the default model's shapes, beside what this machine can deliver at best.
// kernels_bench [threads] [isa]. Other load on the machine only makes it slower: it prints the best of several runs.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_lane.hpp"
#include "kernels/cpu/machine_limits.hpp"
#include "kernels/cpu/packed_tiles.hpp"

namespace {

using namespace troupe;
using memory::dtype;
using memory::tensor_view;

constexpr std::int64_t width = 576, hidden = 1536, vocabulary = 49152, layers = 30, heads = 9, kv_heads = 3,
                       head_dim = 64;
constexpr int runs = 7;

struct floats {
  std::vector<float> values;
  tensor_view view;
  floats(std::int64_t rows, std::int64_t cols) : values(static_cast<std::size_t>(rows * cols)) {
    std::minstd_rand random(1);
    for (float& v : values) v = static_cast<float>(random() % 2001) / 1000.0f - 1.0f;
    view = {values.data(), dtype::f32, rows, cols, cols * 4};
  }
};

struct weights {
  std::vector<std::uint8_t> bytes;
  tensor_view view;
  weights(dtype type, std::int64_t rows, std::int64_t cols)
      : bytes(static_cast<std::size_t>(rows * memory::row_size(type, cols))) {
    std::minstd_rand random(2);
    for (std::uint8_t& b : bytes) b = static_cast<std::uint8_t>(random() >> 8);
    const auto step = static_cast<std::size_t>(memory::info(type).block_bytes);
    for (std::size_t at = 0; at < bytes.size(); at += step) bytes[at + 1] = 0x1c;  // scales of about 0.005
    if (type == dtype::q4_1)
      for (std::size_t at = 0; at < bytes.size(); at += step) bytes[at + 3] = 0x1c;
    view = {bytes.data(), type, rows, cols, memory::row_size(type, cols)};
  }
};

double best_seconds(const std::function<void()>& work) {
  double best = 1e9;
  for (int run = 0; run < runs; ++run) {
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

struct layer {
  kernels::matrix qkv, out, gate_up, down;
};

class model_shapes {
public:
  explicit model_shapes(kernels::lane& lane) : lane_(lane) {
    const weights q(dtype::q4_1, width, width), kv(dtype::q4_1, kv_heads * head_dim, width);
    const weights wide(dtype::q4_1, hidden, width), tall(dtype::q4_1, width, hidden);
    const weights table(dtype::q8_0, vocabulary, width);
    const auto start = std::chrono::steady_clock::now();
    for (std::int64_t i = 0; i < layers; ++i)
      stack_.push_back(
          {pack({q.view, kv.view, kv.view}), pack({q.view}), pack({wide.view, wide.view}), pack({tall.view})});
    head_ = pack({table.view});
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    bytes_ = head_->bytes;
    for (const layer& l : stack_) bytes_ += l.qkv->bytes + l.out->bytes + l.gate_up->bytes + l.down->bytes;
    std::printf("packed %.1f MB in %.0f ms\n", static_cast<double>(bytes_) / 1e6, seconds * 1e3);
    kv_ = std::move(*lane.make_kv({static_cast<std::int32_t>(layers), kv_heads, head_dim}, 1024));
    for (std::int32_t i = 0; i < 1024; ++i) blocks_.push_back(i);
    fill_kv();
  }

  double bytes() const { return static_cast<double>(bytes_); }

  /// A whole step: `rows` tokens of one sequence after `past`, or of `rows` sequences where `apart`.
  void step(std::int64_t rows, std::int32_t past, bool apart, bool only_products, double (&spent)[8]) {
    floats x(rows, width), normed(rows, width), qkv(rows, width + 2 * kv_heads * head_dim), mixed(rows, width);
    floats gate_up(rows, 2 * hidden), inner(rows, hidden), gain(1, width), logits(apart ? rows : 1, vocabulary);
    std::vector<kernels::sequence_rows> batch;
    const std::int32_t each = (past + 16) / 16;
    if (!apart) batch.push_back({0, static_cast<std::int32_t>(rows), past, blocks_});
    for (std::int32_t r = 0; apart && r < rows; ++r)
      batch.push_back({r, 1, past,
                       std::span<const std::int32_t>(blocks_).subspan(static_cast<std::size_t>(r * each),
                                                                      static_cast<std::size_t>(each))});
    const kernels::rope_shape rope{100000.0f, head_dim, true, {}};
    const auto timed = [&](int op, auto&& work) {
      const auto start = std::chrono::steady_clock::now();
      work();
      spent[op] += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    for (std::int64_t i = 0; i < layers; ++i) {
      const layer& l = stack_[static_cast<std::size_t>(i)];
      const auto number = static_cast<std::int32_t>(i);
      timed(0, [&] { lane_.norm_linear(x.view, gain.view, 1e-5f, *l.qkv, normed.view, qkv.view); });
      if (!only_products) timed(1, [&] { lane_.rope_store(qkv.view, heads, rope, number, *kv_, batch); });
      if (!only_products) timed(2, [&] { lane_.attention(qkv.view, heads, 0.125f, number, *kv_, batch, mixed.view); });
      timed(3, [&] { lane_.linear_add(*l.out, mixed.view, x.view); });
      timed(4, [&] { lane_.norm_linear(x.view, gain.view, 1e-5f, *l.gate_up, normed.view, gate_up.view); });
      if (!only_products) timed(5, [&] { lane_.silu_mul(gate_up.view, inner.view); });
      timed(6, [&] { lane_.linear_add(*l.down, inner.view, x.view); });
    }
    timed(7, [&] { lane_.linear(*head_, x.view.slice_rows(0, logits.view.rows), logits.view); });
  }

private:
  /// Memory that was never written is one page of zeros, read from the cache: not what a long context costs.
  void fill_kv() {
    constexpr std::int32_t rows = 512;
    floats qkv(rows, width + 2 * kv_heads * head_dim);
    const kernels::rope_shape rope{100000.0f, head_dim, true, {}};
    for (std::int32_t layer = 0; layer < layers; ++layer)
      for (std::int32_t past = 0; past < 1024 * 16; past += rows) {
        const kernels::sequence_rows sequence{0, rows, past, blocks_};
        lane_.rope_store(qkv.view, heads, rope, layer, *kv_, {&sequence, 1});
      }
  }

  kernels::matrix pack(const std::vector<tensor_view>& parts) { return std::move(lane_.pack(parts)).value_or_throw(); }

  kernels::lane& lane_;
  std::vector<layer> stack_;
  kernels::matrix head_;
  std::int64_t bytes_ = 0;
  std::unique_ptr<kernels::kv_arena> kv_;
  std::vector<std::int32_t> blocks_;
};

void report(model_shapes& model, const char* what, std::int64_t rows, std::int32_t past, bool apart,
            const kernels::machine_limits& limits) {
  static constexpr const char* names[] = {"qkv", "rope", "attention", "out", "gate_up", "silu", "down", "head"};
  double best[8], total = 1e9;
  for (int run = 0; run < runs; ++run) {
    double spent[8] = {}, sum = 0;
    model.step(rows, past, apart, false, spent);
    for (const double s : spent) sum += s;
    if (sum < total) std::copy(std::begin(spent), std::end(spent), std::begin(best));
    total = std::min(total, sum);
  }
  const double macs =
      static_cast<double>(layers * (width * (width * 2 + 2 * kv_heads * head_dim) + 3 * width * hidden)) *
          static_cast<double>(rows) +
      static_cast<double>(vocabulary * width) * static_cast<double>(apart ? rows : 1);
  const double floor = std::max(model.bytes() / limits.read_bytes_per_second, 2 * macs / limits.int8_ops_per_second);
  std::printf("%-18s %8.2f ms %8.0f tok/s %6.1f GB/s %5.2f TOP/s, share of bound %.2f |", what, total * 1e3,
              static_cast<double>(rows) / total, model.bytes() / total / 1e9, 2 * macs / total / 1e12, floor / total);
  for (int op = 0; op < 8; ++op) std::printf(" %s %.0f%%", names[op], 100 * best[op] / total);
  std::printf("\n");
}

/// Repacking by all threads, from and to memory that is there.
void report_packing(int threads, double read_bytes_per_second) {
  kernels::thread_team team(threads);
  constexpr std::int64_t cols = 1024, rows = 96 * 1024;
  std::printf("packing, GB/s of weights (share of reading):");
  for (const dtype type : {dtype::q4_0, dtype::q4_1, dtype::q8_0, dtype::q4_k, dtype::q6_k, dtype::bf16}) {
    const weights source(type, rows, cols);
    const std::int64_t bytes = kernels::tile_bytes(type, cols), tiles = kernels::tiles_of(rows);
    std::vector<std::byte> packed(static_cast<std::size_t>(tiles * bytes));
    const double seconds = best_seconds([&] {
      team.run([&](int thread, int all) {
        const kernels::share mine = team.share_of(tiles, thread, all);
        for (std::int64_t tile = mine.first; tile < mine.last; ++tile)
          kernels::pack_tile(source.view, tile * kernels::tile_rows, packed.data() + tile * bytes);
      });
    });
    const double rate = static_cast<double>(source.bytes.size()) / seconds;
    std::printf(" %s %.1f (%.2f)", std::string(memory::info(type).name).c_str(), rate / 1e9,
                rate / read_bytes_per_second);
  }
  std::printf("\n");
}

/// 64 rows of logits of a head, which finds maxima as it does for a step, from steep to all but equal.
void report_sampling(kernels::lane& lane, std::int64_t tokens) {
  const weights table(dtype::q8_0, tokens, width);
  const kernels::matrix head = lane.pack(std::array{table.view}).value_or_throw();
  floats x(64, width), logits(64, tokens);
  struct {
    const char* what;
    float temperature;
    std::int32_t top_k;
    float top_p, min_p;
  } ways[] = {{"greedy", 0, 0, 1, 0},
              {"temperature", 0.8f, 0, 1, 0},
              {"top_k 40", 0.8f, 40, 1, 0},
              {"top_k 2000", 0.8f, 2000, 1, 0},
              {"top_p 0.95", 0.8f, 0, 0.95f, 0},
              {"top_p 0.5", 0.8f, 0, 0.5f, 0},
              {"min_p 0.05", 0.8f, 0, 1, 0.05f},
              {"top_k, top_p, min_p", 0.8f, 40, 0.95f, 0.05f}};
  for (const double deviation : {5.0, 2.0, 0.1}) {
    lane.head(*head, x.view, logits.view);
    double squares = 0;
    for (const float l : logits.values) squares += static_cast<double>(l) * static_cast<double>(l);
    const double scale = deviation / std::sqrt(squares / static_cast<double>(logits.values.size()));
    for (float& v : x.values) v *= static_cast<float>(scale);
    std::printf("sample 64 of %lld, deviation %.1f, us:", static_cast<long long>(tokens), deviation);
    for (const auto& [what, temperature, top_k, top_p, min_p] : ways) {
      std::vector<kernels::sampling_row> rows(64);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        rows[i].seed = i;
        rows[i].temperature = temperature;
        rows[i].top_k = top_k;
        rows[i].top_p = top_p;
        rows[i].min_p = min_p;
      }
      std::vector<kernels::sampled> picks(rows.size());
      double best = 1e9;
      for (int run = 0; run < runs; ++run) {
        lane.head(*head, x.view, logits.view);
        const auto start = std::chrono::steady_clock::now();
        lane.sample(logits.view, rows, picks);
        best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
      }
      std::printf(" %s %.0f;", what, best * 1e6);
    }
    std::printf("\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  kernels::cpu_lane_options options;
  options.threads = argc > 1 ? std::atoi(argv[1]) : 2;
  if (argc > 2) options.which = kernels::parse_isa(argv[2]).value_or(kernels::best_isa());
  auto lane = kernels::make_cpu_lane(options);
  if (!lane) {
    std::fprintf(stderr, "%s\n", lane.why().text.c_str());
    return 1;
  }
  kernels::machine_limits limits;
  {
    kernels::thread_team team(options.threads);
    limits = kernels::measure_limits(team, options.which).value_or_throw();
  }
  std::printf("%d threads, %s: read %.1f GB/s, int8 %.2f TOP/s\n", options.threads,
              std::string(to_string(options.which)).c_str(), limits.read_bytes_per_second / 1e9,
              limits.int8_ops_per_second / 1e12);
  report_packing(options.threads, limits.read_bytes_per_second);
  model_shapes model(**lane);
  report(model, "decode 1", 1, 128, true, limits);
  report(model, "decode 1 @4096", 1, 4096, true, limits);
  report(model, "decode 8", 8, 128, true, limits);
  report(model, "decode 16", 16, 128, true, limits);
  report(model, "decode 32", 32, 128, true, limits);
  report(model, "prefill 512", 512, 0, false, limits);
  for (const std::int64_t tokens : {vocabulary, std::int64_t{151936}}) report_sampling(**lane, tokens);
  const double noop = best_seconds([&] {
    kernels::thread_team team(options.threads);
    for (int i = 0; i < 10000; ++i) team.run([](int, int) {});
  });
  std::printf("one dispatch of the team: %.2f us\n", noop * 1e6 / 10000);
}
