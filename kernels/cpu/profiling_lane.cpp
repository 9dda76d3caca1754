// Times each op on its way to the lane that does it. Knows what an op must read and compute, not how it is done.
#include "kernels/cpu/profiling_lane.hpp"

#include <algorithm>
#include <chrono>

#include "kernels/cpu/attention_kernels.hpp"

namespace troupe::kernels {
namespace {

using clock = std::chrono::steady_clock;

/// Weights of fewer than 16 bits are multiplied as bytes, the others as floats.
op_work product_work(const packed_matrix& w, std::int64_t rows) {
  const double ops = 2.0 * static_cast<double>(w.rows) * static_cast<double>(w.cols) * static_cast<double>(rows);
  const auto bytes = static_cast<double>(w.bytes);
  const bool narrow = bytes * 8 < 16.0 * static_cast<double>(w.rows) * static_cast<double>(w.cols);
  return {rows > 0 ? bytes : 0, narrow ? ops : 0, narrow ? 0 : ops};
}

}  // namespace

std::string_view to_string(op which) noexcept {
  constexpr std::string_view names[op_count] = {
      "embed",     "norm+qkv", "rope+store", "attention", "keep rows", "attention output",
      "gated mlp", "norm",     "head",       "sample"};
  return names[static_cast<std::size_t>(which)];
}

op_work& op_work::operator+=(const op_work& other) noexcept {
  bytes += other.bytes;
  int8_ops += other.int8_ops;
  float_ops += other.float_ops;
  return *this;
}

double op_work::seconds(const machine_limits& limits) const noexcept {
  return std::max(bytes / limits.read_bytes_per_second,
                  int8_ops / limits.int8_ops_per_second + float_ops / limits.float_ops_per_second);
}

double step_profile::seconds() const noexcept {
  double all = 0;
  for (const op_record& record : records) all += record.seconds;
  return all;
}

op_work step_profile::floor() const noexcept {
  op_work all;
  for (std::size_t i = 0; i < op_count; ++i) {
    op_work work = records[i].work;
    if (static_cast<op>(i) == op::attention) work.int8_ops = work.float_ops = 0;
    all += work;
  }
  return all;
}

template <class Call>
void profiling_lane::timed(op which, const op_work& work, const Call& call) {
  op_record& record = sums_[which];
  const auto meetings = [&] { return inner_.team().dispatches() + inner_.team().barriers(); };
  const std::uint64_t before = meetings();
  const auto start = clock::now();
  call();
  record.seconds += std::chrono::duration<double>(clock::now() - start).count();
  record.barriers += meetings() - before;
  record.work += work;
  ++record.calls;
}

double profiling_lane::kv_token_bytes(const kv_shape& shape) const {
  return static_cast<double>(inner_.kv_block_bytes(shape)) / kv_shape::block_tokens / shape.layers;
}

void profiling_lane::embed(const packed_matrix& table, std::span<const std::int32_t> ids, tensor_view out) {
  const double bytes =
      static_cast<double>(ids.size()) * static_cast<double>(table.bytes) / static_cast<double>(table.rows);
  timed(op::embed, {bytes, 0, 0}, [&] { inner_.embed(table, ids, out); });
}

void profiling_lane::rms_norm(tensor_view x, tensor_view weight, float eps, tensor_view out) {
  timed(op::norm, {}, [&] { inner_.rms_norm(x, weight, eps, out); });
}

void profiling_lane::linear(const packed_matrix& w, tensor_view x, tensor_view out) {
  timed(op::head, product_work(w, x.rows), [&] { inner_.linear(w, x, out); });
}

void profiling_lane::head(const packed_matrix& w, tensor_view x, tensor_view logits) {
  timed(op::head, product_work(w, x.rows), [&] { inner_.head(w, x, logits); });
}

void profiling_lane::linear_add(const packed_matrix& w, tensor_view x, tensor_view out) {
  timed(op::attention_output, product_work(w, x.rows), [&] { inner_.linear_add(w, x, out); });
}

void profiling_lane::norm_linear(tensor_view x, tensor_view weight, float eps, const packed_matrix& w,
                                 tensor_view scratch, tensor_view out) {
  timed(op::norm_qkv, product_work(w, x.rows), [&] { inner_.norm_linear(x, weight, eps, w, scratch, out); });
}

void profiling_lane::rope_store(tensor_view qkv, std::int32_t heads, const rope_shape& rope, std::int32_t layer,
                                kv_arena& kv, std::span<const sequence_rows> batch) {
  timed(op::rope_store, {static_cast<double>(qkv.rows) * kv_token_bytes(kv.shape), 0, 0},
        [&] { inner_.rope_store(qkv, heads, rope, layer, kv, batch); });
}

op_work profiling_lane::attention_work(std::int32_t heads, const kv_shape& shape,
                                       std::span<const sequence_rows> batch) {
  op_work work;
  for (const sequence_rows& sequence : batch) {
    const double past = sequence.past, rows = sequence.rows;
    work.bytes += (past + rows) * kv_token_bytes(shape);
    // q . k and p . v: 2 * head_dim each for every earlier token and the row's own.
    work.float_ops += 4.0 * heads * shape.head_dim * rows * (past + (rows + 1) / 2);
  }
  find_shared_prefixes(batch, attention_kernels::most_vectors, shared_);
  for (const shared_stretch& stretch : shared_.stretches)
    work.bytes -=
        double(stretch.count - 1) * (stretch.last_piece - stretch.first_piece) * piece_tokens * kv_token_bytes(shape);
  return work;
}

void profiling_lane::attention(tensor_view qkv, std::int32_t heads, float scale, std::int32_t layer, const kv_arena& kv,
                               std::span<const sequence_rows> batch, tensor_view out) {
  timed(op::attention, attention_work(heads, kv.shape, batch),
        [&] { inner_.attention(qkv, heads, scale, layer, kv, batch, out); });
}

void profiling_lane::rope_attention(tensor_view qkv, std::int32_t heads, const rope_shape& rope, float scale,
                                    std::int32_t layer, kv_arena& kv, std::span<const sequence_rows> batch,
                                    tensor_view out) {
  op_work work = attention_work(heads, kv.shape, batch);
  work.bytes += static_cast<double>(qkv.rows) * kv_token_bytes(kv.shape);
  timed(op::attention, work, [&] { inner_.rope_attention(qkv, heads, rope, scale, layer, kv, batch, out); });
}

void profiling_lane::keep_rows(tensor_view x, std::span<const std::int32_t> rows) {
  timed(op::keep_rows, {}, [&] { inner_.keep_rows(x, rows); });
}

void profiling_lane::silu_mul(tensor_view gate_up, tensor_view out) {
  timed(op::gated_mlp, {}, [&] { inner_.silu_mul(gate_up, out); });
}

void profiling_lane::silu_linear_add(tensor_view gate_up, const packed_matrix& w, tensor_view scratch,
                                     tensor_view out) {
  timed(op::gated_mlp, product_work(w, gate_up.rows), [&] { inner_.silu_linear_add(gate_up, w, scratch, out); });
}

void profiling_lane::gated_mlp(tensor_view x, tensor_view weight, float eps, const packed_matrix& w,
                               const packed_matrix& down, const mlp_scratch& scratch) {
  op_work work = product_work(w, x.rows);
  work += product_work(down, x.rows);
  timed(op::gated_mlp, work, [&] { inner_.gated_mlp(x, weight, eps, w, down, scratch); });
}

void profiling_lane::sample(tensor_view logits, std::span<const sampling_row> rows, std::span<sampled> picks) {
  timed(op::sample, {}, [&] { inner_.sample(logits, rows, picks); });
}

}  // namespace troupe::kernels
