// Attention and rope on the device against sums in double, on fresh random steps. A plain program: one line a case,
// exit status 1 if any failed. Argument: what the names of the cases to run contain; none: all; "quick": small ones of
// their own.
#include <random>

#include "kernels/cuda/attention_prefill.hpp"
#include "tests/gpu/attention_world.hpp"
#include "tests/support/random_seed.hpp"

using namespace troupe::kernels::cuda;

namespace {

int failures = 0;
const char* wanted = "";  // set once by main

void report(bool passed, const char* name, double figure) {
  std::printf("%s  %s (%.2e)\n", passed ? "PASS" : "FAIL", name, figure);
  failures += !passed;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// bf16 weights of the values, results rounded to bf16: each 2^-9 of its own size.
constexpr double tolerance = 6e-3;

/// What this step stored, beside what it should have: off by `stored_tolerance` of a head's norm at most.
double stored_error(const attention_world& world, const head_shape& shape, int layer) {
  const std::vector<std::byte> arena = world.arena();
  std::vector<double> k(static_cast<std::size_t>(shape.head_dim)), v(k.size());
  double worst = 0;
  for (int s = 0; s < static_cast<int>(world.sequences().size()); ++s) {
    const sequence_shape& q = world.sequences()[static_cast<std::size_t>(s)];
    for (int position = q.past; position < q.past + q.rows; position += 1 + q.rows / 7)
      for (int head = 0; head < shape.kv_heads; ++head) {
        world.key_value(layer, s, head, position, k, v);
        for (int value = 0; value < 2; ++value) {
          double off = 0, norm = 0;
          for (int d = 0; d < shape.head_dim; ++d) {
            const double right = (value ? v : k)[static_cast<std::size_t>(d)];
            const double got = world.number(arena, layer, s, value, head, position, d);
            if (!std::isfinite(got)) return 1e9;
            off += (got - right) * (got - right);
            norm += right * right;
          }
          worst = std::max(worst, std::sqrt(off / norm));
        }
      }
  }
  return worst;
}

/// bf16: rounding after rotation. e4m3: 2^-4 of a number at most, 0.6 of that in the mean; integers: 1/254 of the
/// largest.
double stored_tolerance(kv_format format) {
  return format == kv_format::bf16 ? 4e-3 : format == kv_format::fp8 ? 0.045 : 0.016;
}

void check_decode(const char* name, const head_shape& shape, const std::vector<sequence_shape>& sequences,
                  unsigned seed, kv_format format = kv_format::bf16) {
  if (!std::strstr(name, wanted)) return;
  const int layer = 1;
  attention_world world(shape, sequences, seed, 2, contents::poisoned_around, format);
  world.plan();
  attend_decode(world.call(layer, true), nullptr);
  must(cudaDeviceSynchronize(), name);
  const std::vector<bf16> fused = world.out();
  const double error = world.error(fused, layer, 1);
  report(error < tolerance, name, error);
  const double stored = stored_error(world, shape, layer);
  report(stored < stored_tolerance(format), "  K and V as stored", stored);
  const std::vector<std::byte> stored_once = world.arena();

  world.reset();
  world.plan();
  rope_store(world.rope_call(layer), nullptr);
  attend_decode(world.call(layer, false), nullptr);
  must(cudaDeviceSynchronize(), name);
  report(same_bits(fused, world.out()), "  rotated apart: the same bits", 0);
  report(same_bits(stored_once, world.arena()), "  stored apart: the same bits", 0);

  world.reset();
  const int alone = static_cast<int>(seed % sequences.size());
  world.leave_alone(alone);
  world.plan();
  attend_decode(world.call(layer, true), nullptr);
  must(cudaDeviceSynchronize(), name);
  const double by_itself = world.row_error(world.out(), layer, alone, 0);
  report(by_itself < tolerance, "  alone", by_itself);
  int left = 0;
  for (int count : world.arrivals()) left += count != 0;
  report(left == 0, "  no arrival left behind", left);
}

/// What sequences share is read once, by few works and by many, beside each other and beside what they have alone.
void check_shared(const char* name, const head_shape& shape, const std::vector<sequence_shape>& sequences,
                  unsigned seed) {
  if (!std::strstr(name, wanted)) return;
  const int layer = 1;
  attention_world world(shape, sequences, seed, 2);
  for (const int works : {264, 1 + static_cast<int>(seed % 40)}) {
    world.reset();
    if (!world.share(works)) return report(false, name, 0);
    world.plan();
    attend_decode(world.call(layer, true), nullptr);
    must(cudaDeviceSynchronize(), name);
    const std::vector<bf16> fused = world.out();
    const double error = world.error(fused, layer, 1);
    report(error < tolerance, name, error);
    const double stored = stored_error(world, shape, layer);
    report(stored < stored_tolerance(kv_format::bf16), "  K and V as stored", stored);
    int left = 0;
    for (int count : world.arrivals()) left += count != 0;
    report(left == 0, "  no arrival left behind", left);
  }
  world.reset();
  world.plan();
  rope_store(world.rope_call(layer), nullptr);
  attend_decode(world.call(layer, false), nullptr);
  must(cudaDeviceSynchronize(), name);
  const double apart = world.error(world.out(), layer, 1);
  report(apart < tolerance, "  rotated apart", apart);
}

/// `sequences` may hold single rows too: they go to the decode kernel of the same step.
void check_prefill(const char* name, const head_shape& shape, const std::vector<sequence_shape>& sequences,
                   unsigned seed, kv_format format = kv_format::bf16) {
  if (!std::strstr(name, wanted)) return;
  const int layer = 1;
  attention_world world(shape, sequences, seed, 2, contents::poisoned_around, format);
  world.plan();
  rope_store(world.rope_call(layer), nullptr);
  attend_prefill(world.prefill_call(layer), nullptr);
  attend_decode(world.call(layer, false), nullptr);
  must(cudaDeviceSynchronize(), name);
  const double error = world.error(world.out(), layer, 5);
  report(error < tolerance, name, error);
  const double stored = stored_error(world, shape, layer);
  report(stored < stored_tolerance(format), "  K and V as stored", stored);

  world.reset();
  world.plan();
  rope_store(world.rope_call(layer), nullptr);
  attention_call split = world.prefill_call(layer);
  device_array<float> parts(static_cast<std::size_t>(prefill_workspace_bytes(shape.head_dim) / 4));
  parts.fill(0xff);
  split.split_workspace = reinterpret_cast<std::byte*>(parts.data());
  for (const sequence_shape& one : sequences)
    if (one.rows > 1) {
      split.tiles += (one.rows + prefill_tile_rows() - 1) / prefill_tile_rows();
      split.longest = std::max(split.longest, one.past + one.rows);
    }
  attend_prefill(split, nullptr);
  attend_decode(world.call(layer, false), nullptr);
  must(cudaDeviceSynchronize(), name);
  const double by_parts = world.error(world.out(), layer, 5);
  report(by_parts < tolerance, "  keys in parts", by_parts);

  world.reset();
  world.plan();
  rope_store(world.rope_call(layer), nullptr);
  attend_prefill_by_warps(world.prefill_call(layer), nullptr);
  attend_decode(world.call(layer, false), nullptr);
  must(cudaDeviceSynchronize(), name);
  const double by_warps = world.error(world.out(), layer, 5);
  report(by_warps < tolerance, "  by warps", by_warps);
}

/// Each kernel once on little: what compute-sanitizer, which slows them a thousandfold, gets through.
void check_quick(std::mt19937& random) {
  const head_shape qwen{4, 2, 128, false, 128}, smollm{3, 1, 64, true, 64};
  for (const kv_format format : {kv_format::bf16, kv_format::fp8, kv_format::q8_0}) {
    check_decode("quick: clusters", qwen, {{0, 1}, {200, 1}}, random(), format);
    check_decode("quick: splits", qwen, {{2100, 1}, {17, 1}}, random(), format);
    check_decode("quick: splits, heads of 64", smollm, {{63, 1}, {2100, 1}}, random(), format);
    check_prefill("quick: prompts", qwen, {{0, 70}, {40, 1}, {130, 5}}, random(), format);
    check_prefill("quick: prompts, heads of 64", smollm, {{0, 70}, {40, 1}, {130, 5}}, random(), format);
  }
  check_shared("quick: shared", qwen, {{300, 1}, {280, 1, 0, 16}, {290, 1, 1, 17}}, random());
}

}  // namespace

int main(int count, char** words) {
  const bool quick = count > 1 && std::strcmp(words[1], "quick") == 0;
  if (count > 1 && !quick) wanted = words[1];
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const unsigned seed = troupe::test::random_seed();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  if (quick) {
    check_quick(random);
    std::printf("%s\n", failures ? "FAILED" : "all passed");
    return failures != 0;
  }
  const auto lengths = [&](int sequences, int longest) {
    std::vector<sequence_shape> all;
    for (int s = 0; s < sequences; ++s) all.push_back({static_cast<int>(random() % static_cast<unsigned>(longest)), 1});
    return all;
  };
  const auto any = [&](int below) { return static_cast<int>(random() % static_cast<unsigned>(below)); };
  // Groups of up to `members` that share some blocks of their first, or of one another; each then goes on by itself.
  const auto groups = [&](int count, int members, int longest) {
    std::vector<sequence_shape> all;
    for (int g = 0; g < count; ++g) {
      const int leader = static_cast<int>(all.size()), own = 1 + any(members);
      all.push_back({256 + any(longest), 1});
      for (int m = 1; m < own; ++m) {
        const int parent = leader + any(m), shared = any(all[static_cast<std::size_t>(parent)].past / 16 + 1);
        all.push_back({shared * 16 + any(300), 1, parent, shared});
      }
    }
    all.push_back({any(longest), 1});
    all.push_back({256 + any(longest), 1});
    all.push_back({300 + any(longest), 1, static_cast<int>(all.size()) - 1, 16});
    for (int m = 0; m < 4; ++m)
      all.push_back({257 + any(40), 1, static_cast<int>(all.size()) - 1, 16});  // so that there is some to share
    return all;
  };
  const head_shape llama_8b{32, 8, 128, true, 128}, qwen{16, 8, 128, false, 128}, smollm{9, 3, 64, true, 64},
      wide{64, 4, 128, false, 128}, part{8, 8, 64, false, 32}, part_interleaved{6, 2, 128, true, 64};
  std::vector<sequence_shape> edges;
  for (const int past : {14, 15, 16, 17, 62, 63, 64, 511, 512, 513, 2047, 2048}) edges.push_back({past, 1});
  check_decode("decode: one token, nothing before it", llama_8b, {{0, 1}}, random());
  check_decode("decode: one sequence", llama_8b, {{576, 1}}, random());
  check_decode("decode: the edges of blocks and splits", llama_8b, edges, random());
  check_decode("decode: many short, one long", llama_8b, {{3, 1}, {40000, 1}, {100, 1}, {1, 1}, {33000, 1}}, random());
  check_decode("decode: few enough for clusters", llama_8b, {{0, 1}, {127, 1}, {128, 1}, {2047, 1}}, random());
  check_decode("decode: few enough for clusters, halves", qwen, {{1000, 1}, {300, 1}}, random());
  check_decode("decode: few enough for clusters, heads of 64", smollm, {{1, 1}, {1500, 1}, {15, 1}, {640, 1}, {129, 1}},
               random());
  check_decode("decode: few enough for clusters, sixteen heads a group", wide, {{700, 1}, {2000, 1}}, random());
  check_decode("decode: 64 random lengths", llama_8b, lengths(64, 900), random());
  check_decode("decode: as many pairs as blocks, all whole", llama_8b,
               std::vector<sequence_shape>(32, {150 + any(20), 1}), random());
  check_decode("decode: cuts here and there", llama_8b, std::vector<sequence_shape>(37, {690 + any(20), 1}), random());
  check_decode("decode: two heads a group, halves", qwen, lengths(9, 1500), random());
  check_decode("decode: three heads of 64", smollm, lengths(33, 3000), random());
  check_decode("decode: sixteen heads a group", wide, lengths(5, 2500), random());
  check_decode("decode: a part of the dims turns, halves", part, lengths(7, 700), random());
  check_decode("decode: a part of the dims turns, neighbours", part_interleaved, lengths(7, 700), random());
  check_shared("shared: a group", llama_8b,
               {{1100, 1}, {1100, 1, 0, 64}, {1026, 1, 0, 64}, {1024, 1, 0, 64}, {2000, 1, 0, 64}, {1500, 1, 1, 64}},
               random());
  check_shared("shared: a group of 40, more rows than a tile", llama_8b, groups(1, 40, 1500), random());
  check_shared("shared: several groups", llama_8b, groups(4, 24, 900), random());
  check_shared("shared: many small groups", qwen, groups(12, 5, 1200), random());
  check_shared("shared: three heads of 64", smollm, groups(3, 40, 1500), random());
  check_shared("shared: sixteen heads a group", wide, groups(3, 20, 1000), random());
  check_shared("shared: one head each, a part of the dims turns", part, groups(2, 40, 1000), random());
  check_shared("shared: a part of the dims turns, neighbours", part_interleaved, groups(2, 30, 1000), random());
  check_prefill("prefill: two rows", llama_8b, {{0, 2}}, random());
  check_prefill("prefill: one prompt", llama_8b, {{0, 333}}, random());
  check_prefill("prefill: a chunk behind a cached prefix", llama_8b, {{1234, 200}}, random());
  check_prefill("prefill: ragged, with decode rows among them", llama_8b,
                {{0, 5}, {77, 1}, {64, 64}, {0, 130}, {500, 1}, {63, 65}, {0, 128}, {129, 257}}, random());
  check_prefill("prefill: a long one", llama_8b, {{0, 1500}, {3000, 700}}, random());
  check_prefill("prefill: few rows over many keys", llama_8b, {{9000, 67}}, random());
  check_prefill("prefill: few rows at the edge of a key tile", llama_8b, {{4095, 66}}, random());
  check_prefill("prefill: some over many keys, some over few", qwen, {{6000, 100}, {3, 40}, {700, 1}, {1024, 2}},
                random());
  check_prefill("prefill: two tiles of heads of 64 over many keys", smollm, {{7000, 190}}, random());
  check_prefill("prefill: two heads a group, halves", qwen, {{0, 400}, {100, 31}}, random());
  check_prefill("prefill: three heads of 64", smollm, {{0, 400}, {700, 131}, {16, 16}}, random());
  check_prefill("prefill: a part of the dims turns", part, {{0, 100}, {33, 70}}, random());
  for (const kv_format format : {kv_format::fp8, kv_format::q8_0}) {
    std::printf("%s\n", format == kv_format::fp8 ? "fp8" : "q8_0");
    check_decode("decode: one token, nothing before it", llama_8b, {{0, 1}}, random(), format);
    check_decode("decode: the edges of blocks and splits", llama_8b, edges, random(), format);
    check_decode("decode: many short, one long", llama_8b, {{3, 1}, {40000, 1}, {100, 1}, {1, 1}}, random(), format);
    check_decode("decode: few enough for clusters", llama_8b, {{0, 1}, {127, 1}, {128, 1}, {2047, 1}}, random(),
                 format);
    check_decode("decode: few enough for clusters, heads of 64", smollm,
                 {{1, 1}, {1500, 1}, {15, 1}, {640, 1}, {129, 1}}, random(), format);
    check_decode("decode: two heads a group, halves", qwen, lengths(9, 1500), random(), format);
    check_decode("decode: three heads of 64", smollm, lengths(33, 3000), random(), format);
    check_decode("decode: sixteen heads a group", wide, lengths(5, 2500), random(), format);
    check_decode("decode: a part of the dims turns, halves", part, lengths(7, 700), random(), format);
    check_decode("decode: a part of the dims turns, neighbours", part_interleaved, lengths(7, 700), random(), format);
    check_prefill("prefill: two rows", llama_8b, {{0, 2}}, random(), format);
    check_prefill("prefill: ragged, with decode rows among them", llama_8b,
                  {{0, 5}, {77, 1}, {64, 64}, {0, 130}, {500, 1}, {63, 65}, {129, 257}}, random(), format);
    check_prefill("prefill: some over many keys, some over few", qwen, {{6000, 100}, {3, 40}, {700, 1}, {1024, 2}},
                  random(), format);
    check_prefill("prefill: three heads of 64", smollm, {{0, 400}, {700, 131}, {16, 16}}, random(), format);
    check_prefill("prefill: a part of the dims turns", part, {{0, 100}, {33, 70}}, random(), format);
  }
  std::printf("%s\n", failures ? "FAILED" : "all passed");
  return failures != 0;
}
