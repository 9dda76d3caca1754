// What steps and composite ops do where no back end has something better. Knows no device.
#include "kernels/lane.hpp"

#include <cstring>

namespace troupe::kernels {

result<void> lane::write(const memory::buffer& to, std::int64_t offset, std::span<const std::byte> from) {
  if (!from.empty()) std::memcpy(static_cast<std::byte*>(to.data()) + offset, from.data(), from.size());
  return {};
}

result<void> lane::expect_weights(const memory::mapped_file* file, std::int64_t) {
  if (file != nullptr) file->prefetch(0, file->size());
  return {};
}

result<matrix> lane::pack_table(const tensor_view& table, bool) { return pack({&table, 1}); }

result<step_ticket> lane::begin_step(step_space*, const step_batch& batch, const step_ops& ops) {
  ops(batch);
  return step_ticket{0};
}

void lane::norm_linear(tensor_view x, tensor_view weight, float eps, const packed_matrix& w, tensor_view scratch,
                       tensor_view out) {
  rms_norm(x, weight, eps, scratch);
  linear(w, scratch, out);
}

void lane::rope_attention(tensor_view qkv, std::int32_t heads, const rope_shape& rope, float scale, std::int32_t layer,
                          kv_arena& kv, std::span<const sequence_rows> batch, tensor_view out) {
  rope_store(qkv, heads, rope, layer, kv, batch);
  attention(qkv, heads, scale, layer, kv, batch, out);
}

void lane::keep_rows(tensor_view x, std::span<const std::int32_t> rows) {
  const auto bytes = static_cast<std::size_t>(memory::row_size(x.type, x.cols));
  for (std::int64_t to = 0; const std::int32_t from : rows) {
    if (from != to) std::memcpy(x.row_bytes(to), x.row_bytes(from), bytes);
    ++to;
  }
}

void lane::silu_linear_add(tensor_view gate_up, const packed_matrix& w, tensor_view scratch, tensor_view out) {
  silu_mul(gate_up, scratch);
  linear_add(w, scratch, out);
}

void lane::gated_mlp(tensor_view x, tensor_view weight, float eps, const packed_matrix& w, const packed_matrix& down,
                     const mlp_scratch& scratch) {
  norm_linear(x, weight, eps, w, scratch.normed, scratch.gate_up);
  silu_linear_add(scratch.gate_up, down, scratch.gated, x);
}

}  // namespace troupe::kernels
