// The forward pass of the llama architecture over the lane's ops. T = rows of the step, R = rows to sample,
// W = width, H = heads, G = kv_heads, D = head_dim, F = feed_forward, V = vocabulary. Knows no file and no device.
#include "models/llama/llama.hpp"

#include <cmath>

namespace troupe::models {

memory::tensor_view llama::forward(kernels::lane& lane, layer_range range, const step_batch& batch,
                                   forward_scratch& scratch, kernels::kv_arena& kv) const {
  const auto rows = static_cast<std::int64_t>(batch.ids.size());
  const auto x = scratch.hidden(rows);           // [T, W] the residual stream
  const auto normed = scratch.normed(rows);      // [T, W]
  const auto qkv = scratch.qkv(rows);            // [T, (H + 2G) * D]
  const auto attended = scratch.attended(rows);  // [T, H * D]
  const auto gate_up = scratch.gate_up(rows);    // [T, 2F]
  const auto gated = scratch.gated(rows);        // [T, F]
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
  const kernels::rope_shape rope{shape_.rope_base, shape_.rope_dims, true, shape_.rope_factors};

  if (range.first == 0) lane.embed(*weights_.embedding, batch.ids, x);  // [T, W]
  for (std::int32_t i = range.first; i < range.last; ++i) {
    const llama_layer& layer = weights_.layers[static_cast<std::size_t>(i)];
    // Attention: x += output(attend(rope(norm(x) . qkv)))
    lane.norm_linear(x, layer.attention_norm, shape_.rms_eps, *layer.qkv, normed, qkv);  // [T, W] -> [T, (H + 2G) * D]
    // K, V -> blocks; -> [T, H * D]
    lane.rope_attention(qkv, shape_.heads, rope, scale, i, kv, batch.sequences, attended);
    lane.linear_add(*layer.attention_output, attended, x);  // [T, H * D] -> += [T, W]
    // Gated MLP: x += down(silu(gate) * up); += [T, W]
    lane.gated_mlp(x, layer.mlp_norm, shape_.rms_eps, *layer.gate_up, *layer.down, {normed, gate_up, gated});
  }
  if (range.last != shape_.layers) return scratch.logits(0);
  return logits(lane, batch, scratch);  // [R, V]
}

memory::tensor_view llama::logits(kernels::lane& lane, const step_batch& batch, forward_scratch& scratch) const {
  const auto wanted = static_cast<std::int64_t>(batch.sample_rows.size());
  const auto x = scratch.hidden(static_cast<std::int64_t>(batch.ids.size()));  // [T, W]
  const auto sampled = scratch.sampled(wanted);                                // [R, W]
  const auto out = scratch.logits(wanted);                                     // [R, V]
  if (wanted == 0) return out;
  // The norm gathers the wanted rows: one call for each run of neighbours.
  for (std::int64_t to = 0, run = 1; to < wanted; to += run, run = 1) {
    const std::int64_t from = batch.sample_rows[static_cast<std::size_t>(to)];
    while (to + run < wanted && batch.sample_rows[static_cast<std::size_t>(to + run)] == from + run) ++run;
    lane.rms_norm(x.slice_rows(from, run), weights_.output_norm, shape_.rms_eps, sampled.slice_rows(to, run));
  }
  lane.head(head(), sampled, out);  // [R, W] -> [R, V]
  return out;
}

std::int64_t llama::bytes_per_step() const noexcept {
  std::int64_t bytes = head().bytes;
  for (const llama_layer& layer : weights_.layers) {
    bytes += layer.qkv->bytes + layer.attention_output->bytes + layer.gate_up->bytes + layer.down->bytes;
  }
  return bytes;
}

}  // namespace troupe::models
