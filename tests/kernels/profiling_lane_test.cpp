// The profiling lane: it changes no result, and its sums are what the ops must read and compute.
#include "kernels/cpu/profiling_lane.hpp"

#include "support/catch.hpp"
#include "test_tensors.hpp"

namespace troupe::kernels::testing {
namespace {

constexpr std::int32_t heads = 2, kv_heads = 1, dim = 32, width = 64, hidden = 96, vocabulary = 50;

/// One layer and its head on a lane, with fixed random weights.
class small_model {
public:
  explicit small_model(lane& on) : random_(7), on_(on) {
    qkv_ = pack(dtype::q4_1, (heads + 2 * kv_heads) * dim, width);
    out_ = pack(dtype::q8_0, width, heads * dim);
    gate_up_ = pack(dtype::q4_0, 2 * hidden, width);
    down_ = pack(dtype::bf16, width, hidden);
    table_ = pack(dtype::q8_0, vocabulary, width);
    kv_ = std::move(*on.make_kv({2, kv_heads, dim}, 8));
  }

  /// `sequences` of `rows` rows each after `past`; returns the logits of every row. Runs on any lane.
  std::vector<float> step(lane& through, std::int32_t sequences, std::int32_t rows, std::int32_t past) {
    const std::int32_t count = sequences * rows;
    std::vector<std::int32_t> ids(static_cast<std::size_t>(count), 3);
    std::vector<sequence_rows> batch;
    const std::vector<std::int32_t> blocks{5, 0, 3, 6, 1, 7, 2, 4};
    for (std::int32_t s = 0; s < sequences; ++s)
      batch.push_back({s * rows, rows, past, std::span(blocks).subspan(static_cast<std::size_t>(4 * s), 4)});
    dense x(count, width), normed(count, width), qkv(count, qkv_->rows), mixed(count, heads * dim),
        gate(count, 2 * hidden), inner(count, hidden), logits(count, vocabulary), gain(1, width, random_);
    gain.values.assign(width, 1.0f);
    through.embed(*table_, ids, x.view());
    for (std::int32_t layer = 0; layer < 2; ++layer) {
      through.norm_linear(x.view(), gain.view(), 1e-5f, *qkv_, normed.view(), qkv.view());
      through.rope_store(qkv.view(), heads, {10000.0f, dim, true, {}}, layer, *kv_, batch);
      through.attention(qkv.view(), heads, 0.2f, layer, *kv_, batch, mixed.view());
      through.linear_add(*out_, mixed.view(), x.view());
      through.gated_mlp(x.view(), gain.view(), 1e-5f, *gate_up_, *down_, {normed.view(), gate.view(), inner.view()});
    }
    through.rms_norm(x.view(), gain.view(), 1e-5f, normed.view());
    through.linear(*table_, normed.view(), logits.view());
    const std::vector<float> found = logits.values;
    std::vector<sampling_row> greedy(static_cast<std::size_t>(count));
    std::vector<sampled> picks(greedy.size());
    through.sample(logits.view(), greedy, picks);
    return found;
  }

  double bytes(op which) const {
    switch (which) {
      case op::norm_qkv: return static_cast<double>(qkv_->bytes);
      case op::attention_output: return static_cast<double>(out_->bytes);
      case op::gated_mlp: return static_cast<double>(gate_up_->bytes + down_->bytes);
      default: return static_cast<double>(table_->bytes);
    }
  }

private:
  matrix pack(dtype type, std::int64_t rows, std::int64_t cols) {
    kept_.push_back(std::make_unique<stored>(type, rows, cols, random_));
    const tensor_view view = kept_.back()->view();
    return std::move(on_.pack({&view, 1})).value_or_throw();
  }

  random_source random_;
  lane& on_;
  std::vector<std::unique_ptr<stored>> kept_;
  matrix qkv_, out_, gate_up_, down_, table_;
  std::unique_ptr<kv_arena> kv_;
};

std::unique_ptr<cpu_lane> plain_lane(int threads) {
  return std::move(make_cpu_lane({threads, best_isa(), true})).value_or_throw();
}

}  // namespace

TEST_CASE("profiling changes no bit of a result") {
  auto inner = plain_lane(2);
  profiling_lane profiled(*inner);
  small_model model(*inner);
  const auto expected = model.step(*inner, 2, 5, 9);
  CHECK(same_bits(model.step(profiled, 2, 5, 9), expected));
}

TEST_CASE("each op is told apart, with the bytes and operations it cannot avoid") {
  auto inner = plain_lane(1);
  profiling_lane profiled(*inner);
  small_model model(*inner);
  model.step(profiled, 2, 5, 9);
  const step_profile sums = profiled.take();

  for (const op which : {op::norm_qkv, op::attention_output, op::gated_mlp}) {
    INFO(to_string(which));
    CHECK(sums[which].calls == 2);
    CHECK(sums[which].work.bytes == 2 * model.bytes(which));
  }
  CHECK(sums[op::head].calls == 1);
  CHECK(sums[op::head].work.bytes == model.bytes(op::head));
  for (const op which : {op::embed, op::norm, op::sample}) CHECK(sums[which].calls == 1);
  for (const op which : {op::rope_store, op::attention}) CHECK(sums[which].calls == 2);

  // 10 rows; a multiplication and an addition a weight.
  CHECK(sums[op::gated_mlp].work.int8_ops == 2.0 * 2 * 10 * (2 * hidden) * width);
  CHECK(sums[op::gated_mlp].work.float_ops == 2.0 * 2 * 10 * width * hidden);

  // Rows at positions 9 to 13 see 10 to 14 tokens: 60 a sequence. K and V of 14 tokens are read, of 5 written.
  const double kv_token = static_cast<double>(inner->kv_block_bytes({1, kv_heads, dim})) / kv_shape::block_tokens;
  CHECK(sums[op::attention].work.float_ops == 2 * 2 * 60 * 4.0 * heads * dim);
  CHECK(sums[op::attention].work.bytes == 2 * 2 * 14 * kv_token);
  CHECK(sums[op::rope_store].work.bytes == 2 * 2 * 5 * kv_token);

  op_work parts;
  for (std::size_t i = 0; i < op_count; ++i) parts += sums[static_cast<op>(i)].work;
  CHECK(sums.floor().bytes == parts.bytes);
  CHECK(sums.floor().int8_ops == parts.int8_ops);
  CHECK(sums.floor().float_ops == parts.float_ops - sums[op::attention].work.float_ops);
  CHECK(sums.seconds() > 0);
  CHECK(profiled.take().seconds() == 0);
}

TEST_CASE("KV that sequences share counts once") {
  auto inner = plain_lane(2);
  profiling_lane profiled(*inner);
  const kv_shape shape{1, 2, 32};
  auto kv = std::move(*inner->make_kv(shape, 24));
  const std::vector<std::int32_t> first{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, second{0, 1, 2, 3, 4, 5, 6, 7, 10, 11};
  const std::vector<sequence_rows> batch{{0, 1, 140, first}, {1, 1, 150, second}};
  dense qkv(2, (4 + 2 * 2) * 32), out(2, 4 * 32);
  profiled.attention(qkv.view(), 4, 0.2f, 0, *kv, batch, out.view());
  const double kv_token = static_cast<double>(inner->kv_block_bytes(shape)) / kv_shape::block_tokens;
  CHECK(profiled.take()[op::attention].work.bytes == (128 + 13 + 23) * kv_token);

  profiled.rope_attention(qkv.view(), 4, {10000.0f, 32, true, {}}, 0.2f, 0, *kv, batch, out.view());
  const step_profile together = profiled.take();
  CHECK(together[op::attention].calls == 1);
  CHECK(together[op::rope_store].calls == 0);
  CHECK(together[op::attention].work.bytes == (128 + 13 + 23 + 2) * kv_token);  // and two tokens stored
}

TEST_CASE("every barrier of the team belongs to an op") {
  auto inner = plain_lane(2);
  profiling_lane profiled(*inner);
  small_model model(*inner);
  const auto meetings = [&] { return inner->team().dispatches() + inner->team().barriers(); };
  const std::uint64_t before = meetings();
  model.step(profiled, 2, 5, 9);
  const step_profile sums = profiled.take();
  std::uint64_t counted = 0;
  for (const op_record& record : sums.records) counted += record.barriers;
  CHECK(counted > 0);
  CHECK(counted == meetings() - before);
}

TEST_CASE("a floor is the longer of reading and computing") {
  const machine_limits limits{100, 1000, 10};
  CHECK(op_work{200, 100, 0}.seconds(limits) == 2);
  CHECK(op_work{200, 3000, 10}.seconds(limits) == 4);
}

}  // namespace troupe::kernels::testing
