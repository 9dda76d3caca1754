// The forward pass of the llama architecture over the lane's ops. T = rows of the step, R = rows to sample,
// W = width, H = heads, G = kv_heads, D = head_dim, F = feed_forward, V = vocabulary. Knows no file and no device.
#include "models/llama/llama.hpp"

#include <cmath>

namespace troupe::models {

memory::tensor_view llama::forward(kernels::lane& lane, layer_range range, const step_batch& batch,
                                   forward_scratch& scratch, kernels::kv_arena& kv) const {
  const auto wanted = static_cast<std::int64_t>(batch.sample_rows.size());  // R
  auto t = static_cast<std::int64_t>(batch.ids.size());                     // T, and R once the last K and V are stored
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
  const kernels::rope_shape rope{shape_.rope_base, shape_.rope_dims, true, shape_.rope_factors};

  if (range.first == 0) lane.embed(*weights_.embedding, batch.ids, scratch.hidden(t));  // [T, W]
  for (std::int32_t i = range.first; i < range.last; ++i) {
    const llama_layer& layer = weights_.layers[static_cast<std::size_t>(i)];
    // Attention: x += output(attend(rope(norm(x) . qkv)))
    // [T, W] -> [T, (H + 2G) * D]
    lane.norm_linear(scratch.hidden(t), layer.attention_norm, shape_.rms_eps, *layer.qkv, scratch.normed(t),
                     scratch.qkv(t));
    // K, V -> blocks; -> [T, H * D]
    lane.rope_attention(scratch.qkv(t), shape_.heads, rope, scale, i, kv, batch.sequences, scratch.attended(t));
    if (i + 1 == shape_.layers && wanted < t) {  // what nobody samples has done its work
      lane.keep_rows(scratch.attended(t), batch.sample_rows);
      lane.keep_rows(scratch.hidden(t), batch.sample_rows);
      t = wanted;
      if (t == 0) return scratch.logits(0);
    }
    // [T, H * D] -> += [T, W]
    lane.linear_add(*layer.attention_output, scratch.attended(t), scratch.hidden(t));
    // Gated MLP: x += down(silu(gate) * up); += [T, W]
    lane.gated_mlp(scratch.hidden(t), layer.mlp_norm, shape_.rms_eps, *layer.gate_up, *layer.down,
                   {scratch.normed(t), scratch.gate_up(t), scratch.gated(t)});
  }
  if (range.last != shape_.layers) return scratch.logits(0);
  // [R, W] -> [R, V]
  lane.rms_norm(scratch.hidden(t), weights_.output_norm, shape_.rms_eps, scratch.sampled(t));
  lane.head(head(), scratch.sampled(t), scratch.logits(t));
  return scratch.logits(t);
}

std::int64_t llama::bytes_per_step() const noexcept {
  std::int64_t bytes = head().bytes;
  for (const llama_layer& layer : weights_.layers) {
    bytes += layer.qkv->bytes + layer.attention_output->bytes + layer.gate_up->bytes + layer.down->bytes;
  }
  return bytes;
}

}  // namespace troupe::models
