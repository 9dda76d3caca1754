// K and V in each type: what a page holds is near what was stored, attention over it is softmax over what it holds, and
// its bits depend on nothing else. Pages are read here by kv_unit.hpp's words, not by the kernels' code.
#include "support/catch.hpp"

#include <algorithm>
#include <bit>
#include <numeric>

#include "kernels/cpu/cpu_lane.hpp"
#include "kernels/cpu/half.hpp"
#include "kernels/cpu/kv_arena.hpp"
#include "kernels/cpu/lane_choice.hpp"
#include "tests/kernels/test_tensors.hpp"

namespace {

using namespace troupe;
using namespace troupe::kernels;
using namespace troupe::kernels::testing;

struct heads_shape {
  std::int32_t heads, kv_heads, dim;
  std::int64_t width() const { return std::int64_t{heads + 2 * kv_heads} * dim; }
};

constexpr std::int32_t layer = 1;

/// One sequence on a lane of its own, in an arena whose blocks it takes in reverse order.
struct session {
  heads_shape shape;
  kv_type type;
  std::unique_ptr<cpu_lane> lane;
  std::unique_ptr<kv_arena> kv;
  std::vector<std::int32_t> blocks;

  session(isa which, int threads, const heads_shape& s, kv_type t, std::int32_t count)
      : shape(s), type(t), lane(make_cpu_lane({.threads = threads, .which = which, .kv = t}).value_or_throw()),
        kv(lane->make_kv({layer + 1, s.kv_heads, s.dim}, count).value_or_throw()),
        blocks(static_cast<std::size_t>(count)) {
    std::iota(blocks.rbegin(), blocks.rend(), 0);
  }

  /// All of `qkv` in chunks, not rotated; the outputs.
  std::vector<float> run(dense qkv, std::int32_t chunk, float scale) {
    std::vector<float> outputs;
    for (std::int32_t past = 0; past < qkv.rows; past += chunk) {
      const auto rows = static_cast<std::int32_t>(std::min<std::int64_t>(chunk, qkv.rows - past));
      const sequence_rows one{0, rows, past, blocks};
      tensor_view view = qkv.view();
      view.data = qkv.values.data() + past * qkv.cols;
      view.rows = rows;
      dense out(rows, std::int64_t{shape.heads} * shape.dim);
      lane->rope_store(view, shape.heads, {10000.0f, 0, true, {}}, layer, *kv, {&one, 1});
      lane->attention(view, shape.heads, scale, layer, *kv, {&one, 1}, out.view());
      outputs.insert(outputs.end(), out.values.begin(), out.values.end());
    }
    return outputs;
  }

  std::uint16_t word(const std::byte* at) const {
    std::uint16_t bits;
    std::memcpy(&bits, at, 2);
    return bits;
  }
  /// Number `n` of a cell.
  double number(const std::byte* cell, std::int64_t n) const {
    switch (type) {
      case kv_type::i16: return static_cast<std::int16_t>(word(cell + 2 * n));
      case kv_type::f16: return static_cast<double>(f16_to_f32(word(cell)));
      case kv_type::bf16: return static_cast<double>(bf16_to_f32(word(cell)));
      case kv_type::q8_0: return static_cast<std::int8_t>(cell[n]);
      case kv_type::q4_0: return narrow_numbers[word(cell + n % 2 * 2) >> (n / 2 * 4) & 15];
    }
    return NAN;
  }
  /// K (or V) of a token as its page has it, turned back.
  std::vector<double> held(bool of_keys, std::int32_t kv_head, std::int32_t token) const {
    const std::int64_t dim = (shape.dim + 15) / 16 * 16, in_cell = type == kv_type::q4_0                           ? 8
                                                                   : type == kv_type::f16 || type == kv_type::bf16 ? 1
                                                                                                                   : 2;
    const std::int64_t cell_bytes = type == kv_type::i16 || type == kv_type::q4_0 ? 4 : 2;
    const auto& arena = static_cast<const cpu_kv_arena&>(*kv);
    const std::byte* unit = arena.unit(blocks[static_cast<std::size_t>(token / 16)], layer, kv_head);
    const std::int64_t t = token % 16;
    const double scale = static_cast<double>(bf16_to_f32(word(unit + (of_keys ? 0 : 32) + 2 * t)));
    const std::byte* cells = unit + 64 + (of_keys ? 0 : 16 * dim * cell_bytes / in_cell);
    std::vector<double> head;
    for (std::int64_t d = 0; d < dim; ++d) {
      const std::int64_t cell = of_keys ? d / in_cell * 16 + t : t / in_cell * dim + d;
      head.push_back(scale * number(cells + cell * cell_bytes, of_keys ? d % in_cell : t % in_cell));
    }
    if (type == kv_type::q8_0 || type == kv_type::q4_0) {
      const std::int64_t together = dim & -dim;
      std::vector<double> turned(head.size(), 0.0);
      for (std::int64_t a = 0; a < dim; ++a)
        for (std::int64_t b = a / together * together, end = b + together; b < end; ++b)
          turned[static_cast<std::size_t>(a)] +=
              (std::popcount(static_cast<unsigned>(a & b & (together - 1))) % 2 == 0 ? 1 : -1) *
              head[static_cast<std::size_t>(b)] / std::sqrt(static_cast<double>(together));
      head = turned;
    }
    head.resize(static_cast<std::size_t>(shape.dim));
    return head;
  }
};

std::vector<double> head_of(const dense& qkv, std::int64_t row, std::int64_t head, std::int32_t dim) {
  const auto from = qkv.values.begin() + row * qkv.cols + head * dim;
  return {from, from + dim};
}

/// fp64 attention of one row over what the pages hold.
std::vector<double> expected_row(const session& of, const dense& qkv, std::int32_t row, double scale) {
  std::vector<double> out;
  const heads_shape& shape = of.shape;
  for (std::int32_t h = 0; h < shape.heads; ++h) {
    const std::int32_t kv_head = h / (shape.heads / shape.kv_heads);
    const auto q = head_of(qkv, row, h, shape.dim);
    std::vector<double> mixed(static_cast<std::size_t>(shape.dim), 0.0);
    double total = 0;
    for (std::int32_t t = 0; t <= row; ++t) {
      const auto k = of.held(true, kv_head, t), v = of.held(false, kv_head, t);
      const double weight = std::exp(scale * std::inner_product(q.begin(), q.end(), k.begin(), 0.0));
      total += weight;
      for (std::size_t d = 0; d < mixed.size(); ++d) mixed[d] += weight * v[d];
    }
    for (const double m : mixed) out.push_back(m / total);
  }
  return out;
}

/// Of what was stored, relative to its root mean square.
double stored_error(const session& of, const dense& qkv) {
  double off = 0, all = 0;
  for (std::int32_t t = 0; t < qkv.rows; ++t)
    for (std::int32_t h = 0; h < 2 * of.shape.kv_heads; ++h) {
      const auto was = head_of(qkv, t, of.shape.heads + h, of.shape.dim);
      const auto is = of.held(h < of.shape.kv_heads, h % of.shape.kv_heads, t);
      for (std::size_t d = 0; d < was.size(); ++d) {
        off += (was[d] - is[d]) * (was[d] - is[d]);
        all += was[d] * was[d];
      }
    }
  return std::sqrt(off / all);
}

double most_error(kv_type type) {
  switch (type) {
    case kv_type::i16: return 2e-4;
    case kv_type::f16: return 3e-4;
    case kv_type::bf16: return 2.5e-3;
    case kv_type::q8_0: return 9e-3;
    case kv_type::q4_0: return 0.12;
  }
  return 0;
}

}  // namespace

TEST_CASE("pages hold what was stored, and attention is softmax over what they hold") {
  random_source random(11);
  for (const heads_shape shape : {heads_shape{9, 3, 64}, {4, 1, 80}, {2, 2, 96}, {7, 1, 128}, {2, 1, 256}, {2, 1, 20}})
    for (const std::int32_t length : {1, 15, 77, 150}) {
      const dense qkv(length, shape.width(), random);
      const float scale = 1.0f / std::sqrt(static_cast<float>(shape.dim));
      for (const kv_type type : all_kv_types)
        for (const isa which : available_isas()) {
          INFO(to_string(type) << " on " << to_string(which) << ", heads of " << shape.dim << ", length " << length);
          session on(which, 2, shape, type, 10);
          const auto found = on.run(qkv, 13, scale);
          CHECK(stored_error(on, qkv) < most_error(type));
          for (const std::int32_t row : {0, length / 2, length - 1}) {
            const auto from = found.begin() + row * shape.heads * shape.dim;
            CHECK(distance({from, from + shape.heads * shape.dim},
                           expected_row(on, qkv, row, static_cast<double>(scale))) < 2e-3);
          }
        }
    }
}

TEST_CASE("a number that sticks out costs eight bits little, and four no more than the head's own size") {
  random_source random(12);
  const heads_shape shape{1, 1, 128};
  dense qkv(64, shape.width(), random);
  for (std::int64_t t = 0; t < qkv.rows; ++t)  // K has such a dimension in many models
    qkv.values[static_cast<std::size_t>(t * qkv.cols + 128 + 17)] = 40.0f;
  for (const isa which : available_isas()) {
    session eight(which, 1, shape, kv_type::q8_0, 4), four(which, 1, shape, kv_type::q4_0, 4);
    eight.run(qkv, 64, 0.1f);
    four.run(qkv, 64, 0.1f);
    CHECK(stored_error(eight, qkv) < 9e-3);
    CHECK(stored_error(four, qkv) < 0.12);
  }
}

TEST_CASE("bits in no type depend on chunks and threads") {
  random_source random(13);
  const heads_shape shape{6, 2, 64};
  const dense qkv(300, shape.width(), random);
  for (const kv_type type : all_kv_types)
    for (const isa which : available_isas()) {
      session plain(which, 1, shape, type, 19);
      const auto expected = plain.run(qkv, 300, 0.125f);
      for (const int threads : {1, 3})
        for (const std::int32_t chunk : {1, 33, 300}) {
          if (which == isa::scalar && chunk == 1) continue;  // slow, and like the others
          INFO(to_string(type) << " on " << to_string(which) << ", chunks of " << chunk << ", threads " << threads);
          session on(which, threads, shape, type, 19);
          CHECK(same_bits(on.run(qkv, chunk, 0.125f), expected));
        }
    }
}

TEST_CASE("what is not finite poisons its own sequence and never a block's next owner, in every type") {
  random_source random(14);
  const heads_shape shape{4, 2, 64};
  const dense clean(37, shape.width(), random);
  for (const float poison : {NAN, INFINITY, -INFINITY})
    for (const kv_type type : all_kv_types)
      for (const isa which : available_isas()) {
        INFO(to_string(type) << " on " << to_string(which) << ", " << poison);
        session fresh(which, 1, shape, type, 4), used(which, 1, shape, type, 4);
        const auto expected = fresh.run(clean, 5, 0.2f);
        dense ill(64, shape.width(), random);
        const bool in_v = random.below(2) == 1;  // of token 20, KV head 1
        ill.values[static_cast<std::size_t>(20 * ill.cols + (4 + (in_v ? 3 : 1)) * 64 + random.below(64))] = poison;
        const auto poisoned = used.run(ill, 64, 0.2f);
        for (std::int64_t row = 0; row < 64; ++row)
          CHECK(std::isnan(poisoned[static_cast<std::size_t>(row * 256 + 2 * 64)]) == (row >= 20));
        CHECK(same_bits(used.run(clean, 5, 0.2f), expected));
      }
}

TEST_CASE("an f16 too large for the type is scaled") {
  random_source random(15);
  const heads_shape shape{1, 1, 32};
  dense qkv(3, shape.width(), random);
  for (std::int64_t i = 32; i < qkv.cols; ++i) qkv.values[static_cast<std::size_t>(i)] *= 1e6f;
  for (const isa which : available_isas()) {
    session on(which, 1, shape, kv_type::f16, 1);
    on.run(qkv, 3, 1e-7f);
    CHECK(stored_error(on, qkv) < 5e-4);
  }
}

TEST_CASE("a block's bytes follow the type") {
  const kv_shape shape{3, 2, 64};
  const std::int64_t units = 3 * 2, numbers = 2 * 16 * 64, scales = 64;
  const auto bytes_of = [&](kv_type type) {
    return make_cpu_lane({.kv = type}).value_or_throw()->kv_block_bytes(shape);
  };
  CHECK(bytes_of(kv_type::i16) == units * (scales + 2 * numbers));
  CHECK(bytes_of(kv_type::f16) == units * (scales + 2 * numbers));
  CHECK(bytes_of(kv_type::bf16) == units * (scales + 2 * numbers));
  CHECK(bytes_of(kv_type::q8_0) == units * (scales + numbers));
  CHECK(bytes_of(kv_type::q4_0) == units * (scales + numbers / 2));
}

TEST_CASE("KV types are known by their names, and heads too large for one are refused") {
  for (const kv_type type : all_kv_types) CHECK(parse_kv_type(to_string(type)) == type);
  CHECK(choose_lane({0, "", true, "q4_0"}).value_or_throw().kv == kv_type::q4_0);
  CHECK(choose_lane({}).value_or_throw().kv == kv_type::i16);
  const auto refused = choose_lane({0, "", true, "q5_1"});
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.why().text.find("i16, f16, bf16, q8_0, q4_0") != std::string::npos);
  CHECK_FALSE(make_cpu_lane({.kv = kv_type::q8_0}).value_or_throw()->make_kv({1, 1, 528}, 1).ok());
  CHECK(make_cpu_lane({}).value_or_throw()->make_kv({1, 1, 528}, 1).ok());
}
