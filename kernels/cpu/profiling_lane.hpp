// A lane that forwards to a CPU lane and adds up, op by op, time, bytes, operations and barriers: what
// `troupe bench --profile` prints and what a step's floor is reckoned from. Knows no model: it tells the products of
// a layer apart by what came before them.
#pragma once

#include <array>
#include <string_view>
#include <utility>

#include "kernels/cpu/cpu_lane.hpp"
#include "kernels/cpu/machine_limits.hpp"
#include "kernels/cpu/shared_prefixes.hpp"

namespace troupe::kernels {

/// The ops of a step, in order.
enum class op {
  embed,
  norm_qkv,
  rope_store,
  attention,  ///< with rope+store where they are one op
  keep_rows,
  attention_output,
  gated_mlp,  ///< from its norm to the sum
  norm,
  head,
  sample
};
inline constexpr std::size_t op_count = static_cast<std::size_t>(op::sample) + 1;
std::string_view to_string(op which) noexcept;

/// What cannot be avoided: bytes that are too many for the caches (weights once a product, KV once a sequence, or once
/// for those that share it), and multiplications and additions, those of 8 bits or less apart from those of floats.
/// Activations are not counted.
struct op_work {
  double bytes = 0;
  double int8_ops = 0;
  double float_ops = 0;

  op_work& operator+=(const op_work& other) noexcept;
  /// The least time a machine with these limits needs: it may read and compute at once.
  double seconds(const machine_limits& limits) const noexcept;
};

struct op_record {
  std::uint64_t calls = 0;
  double seconds = 0;
  std::uint64_t barriers = 0;  ///< meetings of the team: its dispatches and the barriers inside them
  op_work work;
};

/// The sums of one or many steps.
struct step_profile {
  std::array<op_record, op_count> records{};

  op_record& operator[](op which) noexcept { return records[static_cast<std::size_t>(which)]; }
  const op_record& operator[](op which) const noexcept { return records[static_cast<std::size_t>(which)]; }
  double seconds() const noexcept;
  /// Weights and KV of all ops, and the operations of the products alone: the bound that decode and prefill are
  /// measured against. Those of attention, few beside them until contexts are long, are left out of it.
  op_work floor() const noexcept;
};

/// Driven by the thread that drives `inner`, which must outlive it. Costs two readings of the clock an op.
/// A composite op that the inner lane fuses must be forwarded here too, or its parts are timed in its place.
class profiling_lane final : public lane {
public:
  explicit profiling_lane(cpu_lane& inner) : inner_(inner) {}

  /// What has been summed up since the last call, from zero again.
  step_profile take() noexcept { return std::exchange(sums_, {}); }

  result<memory::buffer> allocate(std::int64_t bytes) override { return inner_.allocate(bytes); }
  result<void> expect_weights(const memory::mapped_file* file, std::int64_t bytes) override {
    return inner_.expect_weights(file, bytes);
  }
  result<matrix> pack(std::span<const tensor_view> parts) override { return inner_.pack(parts); }
  result<void> finish_weights(std::size_t& which) override { return inner_.finish_weights(which); }
  std::int64_t kv_block_bytes(const kv_shape& shape) const override { return inner_.kv_block_bytes(shape); }
  result<std::unique_ptr<kv_arena>> make_kv(const kv_shape& shape, std::int32_t blocks) override {
    return inner_.make_kv(shape, blocks);
  }

  void embed(const packed_matrix& table, std::span<const std::int32_t> ids, tensor_view out) override;
  void rms_norm(tensor_view x, tensor_view weight, float eps, tensor_view out) override;
  void linear(const packed_matrix& w, tensor_view x, tensor_view out) override;
  void head(const packed_matrix& w, tensor_view x, tensor_view logits) override;
  void linear_add(const packed_matrix& w, tensor_view x, tensor_view out) override;
  void norm_linear(tensor_view x, tensor_view weight, float eps, const packed_matrix& w, tensor_view scratch,
                   tensor_view out) override;
  void rope_store(tensor_view qkv, std::int32_t heads, const rope_shape& rope, std::int32_t layer, kv_arena& kv,
                  std::span<const sequence_rows> batch) override;
  void attention(tensor_view qkv, std::int32_t heads, float scale, std::int32_t layer, const kv_arena& kv,
                 std::span<const sequence_rows> batch, tensor_view out) override;
  void rope_attention(tensor_view qkv, std::int32_t heads, const rope_shape& rope, float scale, std::int32_t layer,
                      kv_arena& kv, std::span<const sequence_rows> batch, tensor_view out) override;
  void keep_rows(tensor_view x, std::span<const std::int32_t> rows) override;
  void silu_mul(tensor_view gate_up, tensor_view out) override;
  void silu_linear_add(tensor_view gate_up, const packed_matrix& w, tensor_view scratch, tensor_view out) override;
  void gated_mlp(tensor_view x, tensor_view weight, float eps, const packed_matrix& w, const packed_matrix& down,
                 const mlp_scratch& scratch) override;
  void sample(tensor_view logits, std::span<const sampling_row> rows, std::span<sampled> picks) override;

private:
  template <class Call>
  void timed(op which, const op_work& work, const Call& call);
  op_work attention_work(std::int32_t heads, const kv_shape& shape, std::span<const sequence_rows> batch);
  /// Bytes of K and V of one token in one layer.
  double kv_token_bytes(const kv_shape& shape) const;

  cpu_lane& inner_;
  step_profile sums_;
  shared_prefixes shared_;
};

}  // namespace troupe::kernels
