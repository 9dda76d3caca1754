// Sequences with Q, K and V of their own, fed to a lane's rope_store and attention, and plain double loops that say
// what must come out. Knows no kernel.
#pragma once

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "kernels/cpu/cpu_lane.hpp"
#include "tests/kernels/test_tensors.hpp"

namespace troupe::kernels::testing {

struct heads_shape {
  std::int32_t heads, kv_heads, dim;
  std::int64_t width() const { return std::int64_t{heads + 2 * kv_heads} * dim; }
};

/// A sequence of tokens with Q, K and V of its own and its place in the arena.
struct sequence {
  dense qkv;
  std::vector<std::int32_t> blocks;
  std::int32_t fed_from = 0;  ///< tokens before it are another sequence's, whose blocks these are
};

/// Sequences of the given lengths over blocks drawn in random order from one arena.
inline std::vector<sequence> make_sequences(const std::vector<std::int32_t>& lengths, const heads_shape& shape,
                                            std::int32_t arena, random_source& random) {
  std::vector<std::int32_t> free(static_cast<std::size_t>(arena));
  std::iota(free.begin(), free.end(), 0);
  std::shuffle(free.begin(), free.end(), random.bits);
  std::vector<sequence> made;
  for (const std::int32_t length : lengths) {
    sequence s{dense(length, shape.width(), random), {}, 0};
    for (std::int32_t t = 0; t < length; t += 16) {
      s.blocks.push_back(free.back());
      free.pop_back();
    }
    made.push_back(std::move(s));
  }
  return made;
}

inline void rotate(std::vector<double>& head, const rope_shape& rope, std::int32_t position) {
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

inline std::vector<double> head_of(const dense& qkv, std::int64_t row, std::int64_t head, std::int32_t dim) {
  std::vector<double> out;
  for (std::int32_t d = 0; d < dim; ++d) out.push_back(static_cast<double>(qkv.at(row, head * dim + d)));
  return out;
}

inline std::vector<double> naive(const dense& qkv, const heads_shape& shape, const rope_shape& rope, double scale) {
  std::vector<std::vector<double>> keys, values;  // [row][kv head]
  for (std::int64_t row = 0; row < qkv.rows; ++row)
    for (std::int32_t kv = 0; kv < shape.kv_heads; ++kv) {
      keys.push_back(head_of(qkv, row, shape.heads + kv, shape.dim));
      rotate(keys.back(), rope, static_cast<std::int32_t>(row));
      values.push_back(head_of(qkv, row, shape.heads + shape.kv_heads + kv, shape.dim));
    }
  std::vector<double> out;
  for (std::int64_t row = 0; row < qkv.rows; ++row)
    for (std::int32_t h = 0; h < shape.heads; ++h) {
      const auto at = [&](std::int64_t t) {
        return static_cast<std::size_t>(t * shape.kv_heads + h / (shape.heads / shape.kv_heads));
      };
      auto q = head_of(qkv, row, h, shape.dim);
      rotate(q, rope, static_cast<std::int32_t>(row));
      std::vector<double> weights;
      for (std::int64_t t = 0; t <= row; ++t)
        weights.push_back(std::exp(scale * std::inner_product(q.begin(), q.end(), keys[at(t)].begin(), 0.0)));
      const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
      std::vector<double> mixed(static_cast<std::size_t>(shape.dim), 0.0);
      for (std::int64_t t = 0; t <= row; ++t)
        for (std::size_t d = 0; d < mixed.size(); ++d)
          mixed[d] += weights[static_cast<std::size_t>(t)] / total * values[at(t)][d];
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

/// Feeds the sequences side by side, in each step all that lie in the next `chunk` positions; the outputs of each
/// sequence, from the first token that it is fed. `together`: by the composite op.
inline std::vector<std::vector<float>> run(arena_of& on, const std::vector<sequence>& all, const heads_shape& shape,
                                           const rope_shape& rope, float scale, std::int32_t chunk,
                                           bool together = true) {
  std::vector<std::vector<float>> outputs(all.size());
  std::int64_t longest = 0;
  for (const sequence& s : all) longest = std::max(longest, s.qkv.rows);
  for (std::int32_t begin = 0; begin < longest; begin += chunk) {
    std::vector<sequence_rows> batch;
    std::vector<std::size_t> who;
    dense qkv(0, shape.width());
    for (std::size_t s = 0; s < all.size(); ++s) {
      const std::int32_t past = std::max(begin, all[s].fed_from);
      const auto rows = static_cast<std::int32_t>(std::min<std::int64_t>(begin + chunk, all[s].qkv.rows)) - past;
      if (rows <= 0) continue;
      batch.push_back({static_cast<std::int32_t>(qkv.rows), rows, past, all[s].blocks});
      who.push_back(s);
      const auto from = all[s].qkv.values.begin() + past * shape.width();
      qkv.values.insert(qkv.values.end(), from, from + rows * shape.width());
      qkv.rows += rows;
    }
    dense out(qkv.rows, std::int64_t{shape.heads} * shape.dim);
    if (together) {
      on.lane->rope_attention(qkv.view(), shape.heads, rope, scale, on.layer, *on.kv, batch, out.view());
    } else {
      on.lane->rope_store(qkv.view(), shape.heads, rope, on.layer, *on.kv, batch);
      on.lane->attention(qkv.view(), shape.heads, scale, on.layer, *on.kv, batch, out.view());
    }
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const auto from = out.values.begin() + batch[i].first_row * out.cols;
      outputs[who[i]].insert(outputs[who[i]].end(), from, from + batch[i].rows * out.cols);
    }
  }
  return outputs;
}

}  // namespace troupe::kernels::testing
