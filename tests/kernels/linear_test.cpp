// Products: every format on every instruction set, against plain sums and bit against bit.
#include <bit>

#include "support/catch.hpp"

#include "kernels/cpu/cpu_lane.hpp"
#include "tests/kernels/test_tensors.hpp"

namespace {

using namespace troupe;
using namespace troupe::kernels;
using namespace troupe::kernels::testing;

constexpr dtype all_types[] = {dtype::q4_0,  dtype::q4_1, dtype::q5_0, dtype::q5_1, dtype::q8_0,   dtype::q2_k,
                               dtype::q3_k,  dtype::q4_k, dtype::q5_k, dtype::q6_k, dtype::iq4_nl, dtype::iq4_xs,
                               dtype::mxfp4, dtype::f16,  dtype::bf16, dtype::f32};

/// `cols` rounded up to whole blocks.
std::int64_t whole_blocks(dtype type, std::int64_t cols) {
  const std::int64_t block = memory::info(type).block;
  return (cols + block - 1) / block * block;
}

std::unique_ptr<cpu_lane> lane_of(isa which, int threads = 1, bool repack = true) {
  return make_cpu_lane({threads, which, repack}).value_or_throw();
}

std::vector<double> exact_product(const dense& w, const dense& x) {
  std::vector<double> out;
  for (std::int64_t t = 0; t < x.rows; ++t)
    for (std::int64_t r = 0; r < w.rows; ++r) {
      double sum = 0;
      for (std::int64_t c = 0; c < w.cols; ++c)
        sum += static_cast<double>(w.at(r, c)) * static_cast<double>(x.at(t, c));
      out.push_back(sum);
    }
  return out;
}

/// Activations as the format's product sees them: rounded to 8 bits by blocks of 32.
dense rounded(const dense& x) {
  dense out = x;
  for (std::size_t at = 0; at < out.values.size(); at += 32) {
    float largest = 0;
    for (std::size_t i = at; i < at + 32; ++i) largest = std::max(largest, std::fabs(x.values[i]));
    for (std::size_t i = at; i < at + 32; ++i)
      out.values[i] = largest == 0 ? 0 : std::nearbyint(x.values[i] * (127.0f / largest)) * (largest / 127.0f);
  }
  return out;
}

/// Activations as BF16 weights meet them where the machine multiplies bf16.
dense bf16_rounded(const dense& x) {
  dense out = x;
  for (float& v : out.values) {
    const auto bits = std::bit_cast<std::uint32_t>(v);
    v = std::bit_cast<float>((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u);
  }
  return out;
}

std::vector<float> product(lane& on, stored& w, dense& x) {
  const matrix packed = on.pack(std::vector{w.view()}).value_or_throw();
  dense out(x.rows, w.meaning.rows);
  on.linear(*packed, x.view(), out.view());
  return out.values;
}

struct shape {
  std::int64_t rows, cols, tokens;
};
constexpr shape shapes[] = {{1, 32, 1},  {16, 64, 2}, {17, 32, 3},   {31, 96, 5},   {33, 160, 6},  {47, 64, 7},
                            {64, 96, 8}, {65, 32, 9}, {100, 64, 13}, {48, 288, 33}, {130, 96, 64}, {79, 64, 65}};

}  // namespace

TEST_CASE("every format on every instruction set multiplies as plain sums do") {
  random_source random(1);
  for (const dtype type : all_types)
    for (shape s : shapes) {
      s.cols = whole_blocks(type, s.cols);
      stored w(type, s.rows, s.cols, random);
      dense x(s.tokens, s.cols, random);
      const bool eight_bit = memory::info(type).block > 1;
      const auto near = exact_product(w.meaning, eight_bit ? rounded(x) : x);
      const auto true_values = exact_product(w.meaning, x);
      for (const isa which : available_isas()) {
        INFO(memory::info(type).name << " " << to_string(which) << " " << s.rows << "x" << s.cols << " by "
                                     << s.tokens);
        const auto found = product(*lane_of(which), w, x);
        const bool halves = type == dtype::bf16 && (which == isa::avx512bf16 || which == isa::amx);
        CHECK(distance(found, halves ? exact_product(w.meaning, bf16_rounded(x)) : near) <
              2e-5);                                 // float rounding of some hundred terms
        CHECK(distance(found, true_values) < 0.08);  // and 8-bit activations, 0.4 % a term, at the worst of all outputs
      }
    }
}

TEST_CASE("float weights may have any number of columns") {
  random_source random(9);
  for (const dtype type : {dtype::f16, dtype::bf16, dtype::f32})
    for (const std::int64_t cols : {1, 7, 33, 131})
      for (const std::int64_t tokens : {1, 4, 17}) {
        stored w(type, 35, cols, random);
        dense x(tokens, cols, random);
        const auto exact = exact_product(w.meaning, bf16_rounded(x));
        for (const isa which : available_isas()) {
          INFO(memory::info(type).name << " " << to_string(which) << " " << cols << " by " << tokens);
          CHECK(distance(product(*lane_of(which), w, x), exact) < 0.02);
        }
      }
}

TEST_CASE("quantised products give the same bits on every instruction set") {
  random_source random(2);
  for (const dtype type : all_types)
    for (shape s : shapes) {
      if (memory::info(type).block == 1) continue;
      s.cols = whole_blocks(type, s.cols);
      stored w(type, s.rows, s.cols, random);
      dense x(s.tokens, s.cols, random);
      const auto expected = product(*lane_of(isa::scalar), w, x);
      for (const isa which : available_isas()) {
        INFO(memory::info(type).name << " " << to_string(which) << " " << s.rows << "x" << s.cols << " by "
                                     << s.tokens);
        CHECK(same_bits(product(*lane_of(which), w, x), expected));
      }
    }
}

TEST_CASE("a row's bits do not depend on the batch, the threads or the repacking") {
  random_source random(3);
  constexpr std::int64_t rows = 90, most = 33;
  for (const dtype type : all_types) {
    const std::int64_t cols = whole_blocks(type, 576);
    stored w(type, rows, cols, random);
    dense x(most, cols, random);
    for (const isa which : available_isas()) {
      const auto expected = product(*lane_of(which), w, x);
      for (const int threads : {1, 2, 3})
        for (const bool repack : {true, false}) {
          const auto lane = lane_of(which, threads, repack);
          const matrix packed = lane->pack(std::vector{w.view()}).value_or_throw();
          for (std::int64_t batch = 1; batch <= most; ++batch) {
            const std::int64_t first = most - batch;
            dense out(batch, rows);
            lane->linear(*packed, x.view().slice_rows(first, batch), out.view());
            INFO(memory::info(type).name << " " << to_string(which) << " batch " << batch << " threads " << threads
                                         << " repack " << repack);
            REQUIRE(same_bits(out.values, {expected.begin() + first * rows, expected.end()}));
          }
        }
    }
  }
}

TEST_CASE("parts of different types and odd heights stack into one product") {
  random_source random(4);
  stored a(dtype::q4_k, 40, 256, random), b(dtype::f16, 7, 256, random), c(dtype::q8_0, 33, 256, random);
  dense x(5, 256, random);
  for (const isa which : available_isas())
    for (const int threads : {1, 2, 3}) {
      const auto lane = lane_of(which, threads);
      const matrix stacked = lane->pack(std::vector{a.view(), b.view(), c.view()}).value_or_throw();
      REQUIRE(stacked->rows == 80);
      dense out(5, 80);
      lane->linear(*stacked, x.view(), out.view());
      const auto first = product(*lane, a, x), second = product(*lane, b, x), third = product(*lane, c, x);
      for (std::int64_t t = 0; t < 5; ++t) {
        const float* row = out.values.data() + t * 80;
        CHECK(same_bits({row, row + 40}, {first.begin() + t * 40, first.begin() + (t + 1) * 40}));
        CHECK(same_bits({row + 40, row + 47}, {second.begin() + t * 7, second.begin() + (t + 1) * 7}));
        CHECK(same_bits({row + 47, row + 80}, {third.begin() + t * 33, third.begin() + (t + 1) * 33}));
      }
    }
}

TEST_CASE("linear_add adds to what is there, norm_linear is rms_norm and then linear") {
  random_source random(5);
  stored w(dtype::q4_0, 50, 96, random);
  dense x(7, 96, random), gain(1, 96, random), before(7, 50, random);
  for (const isa which : available_isas())
    for (const int threads : {1, 2}) {
      const auto lane = lane_of(which, threads);
      const matrix packed = lane->pack(std::vector{w.view()}).value_or_throw();
      dense plain(7, 50), added = before, normed(7, 96), scratch(7, 96), composed(7, 50), fused(7, 50);
      lane->linear(*packed, x.view(), plain.view());
      lane->linear_add(*packed, x.view(), added.view());
      for (std::size_t i = 0; i < plain.values.size(); ++i) plain.values[i] = before.values[i] + plain.values[i];
      CHECK(distance(added.values, {plain.values.begin(), plain.values.end()}) < 1e-6);
      lane->rms_norm(x.view(), gain.view(), 1e-5f, normed.view());
      lane->linear(*packed, normed.view(), composed.view());
      lane->norm_linear(x.view(), gain.view(), 1e-5f, *packed, scratch.view(), fused.view());
      CHECK(same_bits(fused.values, composed.values));
    }
}

TEST_CASE("long rows, whose columns are cut for many tokens, add up as they do for one") {
  random_source random(11);
  constexpr std::int64_t rows = 50, cols = 4608, tokens = 21;
  dense x(tokens, cols, random), before(tokens, rows, random);
  for (const dtype type : {dtype::q4_0, dtype::q8_0, dtype::q4_k, dtype::q6_k, dtype::f16, dtype::bf16}) {
    stored w(type, rows, cols, random);
    const auto added_on = [&](isa which, std::int64_t first, std::int64_t count) {
      const auto lane = lane_of(which);
      const matrix packed = lane->pack(std::vector{w.view()}).value_or_throw();
      dense out = before;
      lane->linear_add(*packed, x.view().slice_rows(first, count), out.view().slice_rows(first, count));
      return std::vector<float>(out.values.begin() + first * rows, out.values.begin() + (first + count) * rows);
    };
    const auto scalar = added_on(isa::scalar, 0, tokens);
    for (const isa which : available_isas()) {
      INFO(memory::info(type).name << " " << to_string(which));
      const auto all = added_on(which, 0, tokens);
      if (memory::info(type).block > 1) CHECK(same_bits(all, scalar));
      for (std::int64_t t = 0; t < tokens; ++t)
        CHECK(same_bits(added_on(which, t, 1), {all.begin() + t * rows, all.begin() + (t + 1) * rows}));
    }
  }
}

TEST_CASE("silu_linear_add is silu_mul and then linear_add") {
  random_source random(10);
  for (const dtype type : {dtype::q4_1, dtype::bf16, dtype::f32}) {
    stored w(type, 50, 96, random);
    dense x(7, 192, random), before(7, 50, random);
    for (const isa which : available_isas())
      for (const int threads : {1, 2}) {
        const auto lane = lane_of(which, threads);
        const matrix packed = lane->pack(std::vector{w.view()}).value_or_throw();
        dense gated(7, 96), scratch(7, 96), composed = before, fused = before;
        lane->silu_mul(x.view(), gated.view());
        lane->linear_add(*packed, gated.view(), composed.view());
        lane->silu_linear_add(x.view(), *packed, scratch.view(), fused.view());
        CHECK(same_bits(fused.values, composed.values));
      }
  }
}

TEST_CASE("gated_mlp is norm_linear and then silu_linear_add, and its rows do not know each other") {
  struct shape {
    dtype gate, up, down;
    std::int64_t width, inner, tokens;
  };
  random_source random(31);
  for (const shape& s : {shape{dtype::q4_1, dtype::q4_1, dtype::q4_1, 64, 1504, 7},
                         {dtype::q8_0, dtype::q8_0, dtype::q8_0, 608, 96, 3},
                         {dtype::q4_0, dtype::q4_1, dtype::q5_0, 128, 800, 45},
                         {dtype::q4_k, dtype::q4_k, dtype::q6_k, 256, 512, 1},
                         {dtype::q4_1, dtype::q4_1, dtype::q4_1, 96, 512, 401},
                         {dtype::bf16, dtype::bf16, dtype::q4_1, 64, 96, 5},
                         {dtype::q8_0, dtype::q8_0, dtype::f32, 608, 96, 9}}) {
    stored gate(s.gate, s.inner, s.width, random), up(s.up, s.inner, s.width, random),
        down(s.down, s.width, s.inner, random);
    dense gain(1, s.width, random), before(s.tokens, s.width, random);
    for (const isa which : available_isas())
      for (const int threads : {1, 2, 3}) {
        INFO(to_string(which) << ", " << threads << " threads, " << s.tokens << " tokens of "
                              << memory::info(s.gate).name);
        const auto lane = lane_of(which, threads);
        const matrix both = lane->pack(std::vector{gate.view(), up.view()}).value_or_throw();
        const matrix last = lane->pack(std::vector{down.view()}).value_or_throw();
        dense normed(s.tokens, s.width), gate_up(s.tokens, 2 * s.inner), gated(s.tokens, s.inner);
        dense composed = before, fused = before;
        lane->norm_linear(composed.view(), gain.view(), 1e-5f, *both, normed.view(), gate_up.view());
        lane->silu_linear_add(gate_up.view(), *last, gated.view(), composed.view());
        lane->gated_mlp(fused.view(), gain.view(), 1e-5f, *both, *last, {normed.view(), gate_up.view(), gated.view()});
        CHECK(same_bits(fused.values, composed.values));
        dense one = before;  // alone
        const auto first = [](dense& rows) { return rows.view().slice_rows(0, 1); };
        lane->gated_mlp(one.view().slice_rows(s.tokens - 1, 1), gain.view(), 1e-5f, *both, *last,
                        {first(normed), first(gate_up), first(gated)});
        CHECK(same_bits({one.values.end() - s.width, one.values.end()},
                        {fused.values.end() - s.width, fused.values.end()}));
      }
  }
}

TEST_CASE("a NaN in one row of activations stays in that row") {
  random_source random(6);
  stored w(dtype::q4_1, 32, 64, random);
  dense x(3, 64, random);
  for (const isa which : available_isas()) {
    const auto lane = lane_of(which);
    const auto clean = product(*lane, w, x);
    for (const float poison : {NAN, INFINITY}) {
      dense bad = x;
      bad.values[64 + 5] = poison;
      const auto found = product(*lane, w, bad);
      CHECK(same_bits({found.begin(), found.begin() + 32}, {clean.begin(), clean.begin() + 32}));
      CHECK(same_bits({found.begin() + 64, found.end()}, {clean.begin() + 64, clean.end()}));
      for (std::int64_t r = 32; r < 64; ++r) CHECK(std::isnan(found[static_cast<std::size_t>(r)]));
    }
  }
}

TEST_CASE("weights that cannot be computed with are refused") {
  random_source random(7);
  const auto lane = lane_of(best_isa());
  for (const dtype type : all_types)
    for (int scale = 0; scale < 2 && memory::info(type).block > 1; ++scale)
      for (const bool nan : {true, false}) {
        INFO(memory::info(type).name << " scale " << scale << " nan " << nan);
        stored w(type, 20, 3 * memory::info(type).block, random);
        CHECK(lane->pack(std::vector{w.view()}).ok());
        char* block = w.bytes.data() + (random.below(60)) * memory::info(type).block_bytes;
        if (!test::spoil_scale(type, block, scale, nan)) continue;
        CHECK(lane->pack(std::vector{w.view()}).why().code == errc::corrupt_file);
      }
  for (const dtype type : all_types) {
    const std::int64_t block = memory::info(type).block;
    stored whole(type, 2, 2 * block, random);
    tensor_view odd = whole.view();
    odd.cols -= block / 2;
    if (block > 1) CHECK(lane->pack(std::vector{odd}).why().code == errc::unsupported);
  }
  CHECK(lane->pack({}).why().code == errc::invalid_argument);
}

TEST_CASE("embed returns the rows of the table exactly") {
  random_source random(8);
  for (const dtype type : all_types) {
    const std::int64_t cols = whole_blocks(type, 96);
    stored w(type, 37, cols, random);
    const std::vector<std::int32_t> ids{0, 36, 5, 16, 15, 31, 32, 5};
    for (const bool repack : {true, false}) {
      const auto lane = lane_of(best_isa(), 2, repack);
      const matrix packed = lane->pack(std::vector{w.view()}).value_or_throw();
      dense out(static_cast<std::int64_t>(ids.size()), cols);
      lane->embed(*packed, ids, out.view());
      for (std::size_t i = 0; i < ids.size(); ++i)
        for (std::int64_t c = 0; c < cols; ++c)
          REQUIRE(out.at(static_cast<std::int64_t>(i), c) == w.meaning.at(ids[i], c));
    }
  }
}
