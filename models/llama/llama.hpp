// The llama architecture (Llama, Mistral, SmolLM): weights by role and their forward pass. Knows no file format.
// Source: "LLaMA: Open and Efficient Foundation Language Models" (Touvron et al. 2023); grouped queries from
// "GQA" (Ainslie et al. 2023); rotary positions from "RoFormer" (Su et al. 2021).
#pragma once

#include <memory>
#include <vector>

#include "kernels/lane.hpp"
#include "memory/buffer.hpp"
#include "models/network.hpp"

namespace troupe::models {

struct llama_layer {
  memory::tensor_view attention_norm;  ///< [1, width]
  kernels::matrix qkv;                 ///< [(heads + 2 * kv_heads) * head_dim, width]: Q over K over V
  kernels::matrix attention_output;    ///< [width, heads * head_dim]
  memory::tensor_view mlp_norm;        ///< [1, width]
  kernels::matrix gate_up;             ///< [2 * feed_forward, width]: gate over up
  kernels::matrix down;                ///< [width, feed_forward]
};

struct llama_weights {
  kernels::matrix embedding;  ///< [vocabulary, width]
  std::vector<llama_layer> layers;
  memory::tensor_view output_norm;  ///< [1, width]
  kernels::matrix head;             ///< [vocabulary, width]; empty where the embedding is the head too (tied)
  memory::buffer norms;             ///< what the norms' views show
};

class llama final : public network {
public:
  llama(model_shape shape, llama_weights weights) : shape_(std::move(shape)), weights_(std::move(weights)) {}

  const model_shape& shape() const noexcept override { return shape_; }
  memory::tensor_view forward(kernels::lane& lane, layer_range range, const step_batch& batch, forward_scratch& scratch,
                              kernels::kv_arena& kv) const override;
  std::int64_t bytes_per_step() const noexcept override;

private:
  const kernels::packed_matrix& head() const noexcept { return weights_.head ? *weights_.head : *weights_.embedding; }

  model_shape shape_;
  llama_weights weights_;
};

}  // namespace troupe::models
