// What every architecture offers: its shape, and one forward pass of a step over a range of layers.
// Knows no architecture, no tokenizer and no file format.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include <troupe/result.hpp>

#include "kernels/lane.hpp"
#include "memory/buffer.hpp"

namespace troupe::models {

/// The figures of a transformer, checked when read: all positive, heads a multiple of kv_heads.
struct model_shape {
  std::int32_t layers = 0;
  std::int32_t width = 0;  ///< of the residual stream
  std::int32_t heads = 0;
  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;
  std::int32_t feed_forward = 0;
  std::int32_t vocabulary = 0;  ///< rows of the output head; at least the tokenizer's size
  std::int32_t context = 0;     ///< tokens the model was trained to attend over
  float rms_eps = 0;
  float rope_base = 0;
  std::int32_t rope_dims = 0;
  std::vector<float> rope_factors;  ///< per pair, or empty

  std::int32_t attention_width() const noexcept { return heads * head_dim; }
  std::int32_t qkv_width() const noexcept { return (heads + 2 * kv_heads) * head_dim; }
  kernels::kv_shape kv() const noexcept { return {layers, kv_heads, head_dim}; }
};

/// Layers [first, last). A range that starts at 0 embeds; one that ends at shape.layers makes logits.
struct layer_range {
  std::int32_t first = 0;
  std::int32_t last = 0;
};

using kernels::step_batch;

/// Activations of one lane, allocated once for the largest step. Used by one forward at a time.
class forward_scratch {
public:
  /// Bytes: about rows * (3 * width + qkv + attention + 3 * feed_forward) * 4 + sample_rows * (width + vocabulary) * 4.
  static result<forward_scratch> create(kernels::lane& lane, const model_shape& shape, std::int32_t max_rows,
                                        std::int32_t max_sample_rows);

  std::int32_t max_rows() const noexcept { return static_cast<std::int32_t>(hidden_.rows); }
  std::int32_t max_sample_rows() const noexcept { return static_cast<std::int32_t>(logits_.rows); }

  /// Views of the first rows of each activation; hidden and logits f32, the others as the lane computes.
  ///
  /// [T, width]
  memory::tensor_view hidden(std::int64_t rows) const noexcept { return hidden_.slice_rows(0, rows); }
  /// [T, width]
  memory::tensor_view normed(std::int64_t rows) const noexcept { return normed_.slice_rows(0, rows); }
  /// [T, qkv]
  memory::tensor_view qkv(std::int64_t rows) const noexcept { return qkv_.slice_rows(0, rows); }
  /// [T, heads * dim]
  memory::tensor_view attended(std::int64_t rows) const noexcept { return attended_.slice_rows(0, rows); }
  /// [T, 2 * ff]
  memory::tensor_view gate_up(std::int64_t rows) const noexcept { return gate_up_.slice_rows(0, rows); }
  /// [T, ff]
  memory::tensor_view gated(std::int64_t rows) const noexcept { return gated_.slice_rows(0, rows); }
  /// [R, width]
  memory::tensor_view sampled(std::int64_t rows) const noexcept { return sampled_.slice_rows(0, rows); }
  /// [R, vocabulary]
  memory::tensor_view logits(std::int64_t rows) const noexcept { return logits_.slice_rows(0, rows); }

private:
  forward_scratch() = default;
  memory::buffer bytes_;
  memory::tensor_view hidden_, normed_, qkv_, attended_, gate_up_, gated_, sampled_, logits_;
};

/// Told bytes of weights done and in all while a network loads; called on the loading thread.
using load_progress = std::function<void(std::int64_t done, std::int64_t total)>;

/// The weights of one model and its forward pass. Immutable; its matrices belong to the lane that packed them.
class network {
public:
  virtual ~network() = default;
  virtual const model_shape& shape() const noexcept = 0;

  /// Runs the step's rows through `range`, storing K and V of those layers. The hidden state enters (range.first > 0)
  /// and leaves in scratch.hidden. Returns logits [sample_rows, vocabulary] in scratch where the range ends the model,
  /// else no rows. Contract: rows and sample_rows within the scratch's limits, block tables covering past + rows.
  virtual memory::tensor_view forward(kernels::lane& lane, layer_range range, const step_batch& batch,
                                      forward_scratch& scratch, kernels::kv_arena& kv) const = 0;

  /// Bytes of weights that one decode step reads: the floor of its time is this over the memory's bandwidth.
  virtual std::int64_t bytes_per_step() const noexcept = 0;
};

}  // namespace troupe::models
