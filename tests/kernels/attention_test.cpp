// Rope and paged attention against plain double loops over the tokens' own K and V, and bit against bit.
#include "support/catch.hpp"

#include <algorithm>
#include <numeric>

#include "kernels/cpu/cpu_lane.hpp"
#include "tests/kernels/test_tensors.hpp"

namespace {

using namespace troupe;
using namespace troupe::kernels;
using namespace troupe::kernels::testing;

struct heads_shape {
  std::int32_t heads, kv_heads, dim;
  std::int64_t width() const { return std::int64_t{heads + 2 * kv_heads} * dim; }
};

/// A sequence of tokens with Q, K and V of its own and its place in the arena.
struct sequence {
  dense qkv;
  std::vector<std::int32_t> blocks;
};

/// Sequences of the given lengths over blocks drawn in random order from one arena.
std::vector<sequence> make_sequences(const std::vector<std::int32_t>& lengths, const heads_shape& shape,
                                     std::int32_t arena, random_source& random) {
  std::vector<std::int32_t> free(static_cast<std::size_t>(arena));
  std::iota(free.begin(), free.end(), 0);
  std::shuffle(free.begin(), free.end(), random.bits);
  std::vector<sequence> made;
  for (const std::int32_t length : lengths) {
    sequence s{dense(length, shape.width(), random), {}};
    for (std::int32_t t = 0; t < length; t += 16) {
      s.blocks.push_back(free.back());
      free.pop_back();
    }
    made.push_back(std::move(s));
  }
  return made;
}

void rotate(std::vector<double>& head, const rope_shape& rope, std::int32_t position) {
  for (std::int32_t i = 0; i < rope.dims / 2; ++i) {
    const std::size_t a = static_cast<std::size_t>(rope.interleaved ? 2 * i : i);
    const std::size_t b = static_cast<std::size_t>(rope.interleaved ? 2 * i + 1 : i + rope.dims / 2);
    double angle = position * std::pow(static_cast<double>(rope.base), -2.0 * i / rope.dims);
    if (!rope.factors.empty()) angle /= static_cast<double>(rope.factors[static_cast<std::size_t>(i)]);
    const double first = head[a], second = head[b];
    head[a] = first * std::cos(angle) - second * std::sin(angle);
    head[b] = first * std::sin(angle) + second * std::cos(angle);
  }
}

std::vector<double> head_of(const dense& qkv, std::int64_t row, std::int64_t head, std::int32_t dim) {
  std::vector<double> out;
  for (std::int32_t d = 0; d < dim; ++d) out.push_back(static_cast<double>(qkv.at(row, head * dim + d)));
  return out;
}

std::vector<double> naive(const dense& qkv, const heads_shape& shape, const rope_shape& rope, double scale) {
  std::vector<double> out;
  for (std::int64_t row = 0; row < qkv.rows; ++row)
    for (std::int32_t h = 0; h < shape.heads; ++h) {
      const std::int32_t kv = h / (shape.heads / shape.kv_heads);
      auto q = head_of(qkv, row, h, shape.dim);
      rotate(q, rope, static_cast<std::int32_t>(row));
      std::vector<double> weights;
      for (std::int64_t t = 0; t <= row; ++t) {
        auto k = head_of(qkv, t, shape.heads + kv, shape.dim);
        rotate(k, rope, static_cast<std::int32_t>(t));
        weights.push_back(std::exp(scale * std::inner_product(q.begin(), q.end(), k.begin(), 0.0)));
      }
      const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
      std::vector<double> mixed(static_cast<std::size_t>(shape.dim), 0.0);
      for (std::int64_t t = 0; t <= row; ++t) {
        const auto v = head_of(qkv, t, shape.heads + shape.kv_heads + kv, shape.dim);
        for (std::size_t d = 0; d < mixed.size(); ++d) mixed[d] += weights[static_cast<std::size_t>(t)] / total * v[d];
      }
      out.insert(out.end(), mixed.begin(), mixed.end());
    }
  return out;
}

struct arena_of {
  std::unique_ptr<cpu_lane> lane;
  std::unique_ptr<kv_arena> kv;
  static constexpr std::int32_t layers = 2, layer = 1;
  arena_of(isa which, int threads, const heads_shape& shape, std::int32_t blocks)
      : lane(make_cpu_lane({threads, which, true}).value_or_throw()),
        kv(lane->make_kv({layers, shape.kv_heads, shape.dim}, blocks).value_or_throw()) {}
};

/// Feeds the sequences side by side, `chunk` tokens of each in a step; the outputs of each sequence.
std::vector<std::vector<float>> run(arena_of& on, const std::vector<sequence>& all, const heads_shape& shape,
                                    const rope_shape& rope, float scale, std::int32_t chunk) {
  std::vector<std::vector<float>> outputs(all.size());
  for (std::int32_t past = 0;; past += chunk) {
    std::vector<sequence_rows> batch;
    std::vector<std::size_t> who;
    dense qkv(0, shape.width());
    for (std::size_t s = 0; s < all.size(); ++s) {
      const auto rows = static_cast<std::int32_t>(std::min<std::int64_t>(chunk, all[s].qkv.rows - past));
      if (rows <= 0) continue;
      batch.push_back({static_cast<std::int32_t>(qkv.rows), rows, past, all[s].blocks});
      who.push_back(s);
      const auto from = all[s].qkv.values.begin() + past * shape.width();
      qkv.values.insert(qkv.values.end(), from, from + rows * shape.width());
      qkv.rows += rows;
    }
    if (batch.empty()) return outputs;
    dense out(qkv.rows, std::int64_t{shape.heads} * shape.dim);
    on.lane->rope_store(qkv.view(), shape.heads, rope, on.layer, *on.kv, batch);
    on.lane->attention(qkv.view(), shape.heads, scale, on.layer, *on.kv, batch, out.view());
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const auto from = out.values.begin() + batch[i].first_row * out.cols;
      outputs[who[i]].insert(outputs[who[i]].end(), from, from + batch[i].rows * out.cols);
    }
  }
}

}  // namespace

TEST_CASE("paged attention is softmax over the sequence's own tokens") {
  const std::vector<float> factors{1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f, 7.0f, 8.0f};
  const struct {
    heads_shape shape;
    rope_shape rope;
  } cases[] = {{{9, 3, 64}, {100000.0f, 64, true, {}}},
               {{4, 4, 32}, {10000.0f, 32, false, {}}},
               {{8, 1, 16}, {10000.0f, 16, true, factors}},
               {{14, 1, 48}, {10000.0f, 32, true, {}}},
               {{2, 1, 20}, {10000.0f, 20, false, {}}}};
  random_source random(1);
  for (const auto& [shape, rope] : cases) {
    const auto all = make_sequences({1, 16, 37, 70}, shape, 40, random);
    const float scale = 1.0f / std::sqrt(static_cast<float>(shape.dim));
    for (const isa which : available_isas()) {
      arena_of on(which, 2, shape, 40);
      const auto found = run(on, all, shape, rope, scale, 25);
      for (std::size_t s = 0; s < all.size(); ++s) {
        INFO(to_string(which) << " heads " << shape.heads << " dim " << shape.dim << " length " << all[s].qkv.rows);
        // K and V are rounded to f16: 2^-11 of each, at the worst of all outputs.
        CHECK(distance(found[s], naive(all[s].qkv, shape, rope, static_cast<double>(scale))) < 5e-3);
      }
    }
  }
}

TEST_CASE("a long context is split and merged without loss") {
  random_source random(2);
  const heads_shape shape{6, 2, 32};
  const rope_shape rope{10000.0f, 32, true, {}};
  const auto all = make_sequences({700}, shape, 60, random);
  const auto expected = naive(all[0].qkv, shape, rope, 0.3);
  for (const isa which : available_isas()) {
    arena_of on(which, 2, shape, 60);
    CHECK(distance(run(on, all, shape, rope, 0.3f, 700)[0], expected) < 1e-2);
  }
}

TEST_CASE("a token's attention has the same bits alone, in a batch, in any chunk and on any number of threads") {
  random_source random(3);
  const heads_shape shape{9, 3, 64};
  const rope_shape rope{10000.0f, 64, true, {}};
  const auto all = make_sequences({530, 1, 300, 40}, shape, 80, random);
  for (const isa which : available_isas()) {
    arena_of plain(which, 1, shape, 80);
    const auto expected = run(plain, all, shape, rope, 0.125f, 530);
    for (const int threads : {1, 2, 3})
      for (const std::int32_t chunk : {1, 7, 64, 256}) {
        if (which == isa::scalar && chunk == 7) continue;  // slow, and like the others
        arena_of on(which, threads, shape, 80);
        INFO(to_string(which) << " threads " << threads << " chunk " << chunk);
        const auto found = run(on, all, shape, rope, 0.125f, chunk);
        for (std::size_t s = 0; s < all.size(); ++s) CHECK(same_bits(found[s], expected[s]));
      }
    arena_of alone(which, 2, shape, 80);
    CHECK(same_bits(run(alone, {all[2]}, shape, rope, 0.125f, 300)[0], expected[2]));
  }
}

TEST_CASE("NaN left in a recycled block does not reach its next owner") {
  random_source random(4);
  const heads_shape shape{4, 2, 32};
  const rope_shape rope{10000.0f, 32, true, {}};
  auto poisoned = make_sequences({64}, shape, 4, random);
  const auto clean = make_sequences({37}, shape, 4, random);
  for (float& v : poisoned[0].qkv.values) v = NAN;
  for (const isa which : available_isas()) {
    arena_of fresh(which, 1, shape, 4), used(which, 1, shape, 4);
    const auto expected = run(fresh, clean, shape, rope, 0.2f, 5);
    run(used, poisoned, shape, rope, 0.2f, 64);
    CHECK(same_bits(run(used, clean, shape, rope, 0.2f, 5)[0], expected[0]));
  }
}
