// A very small llama of random bf16 weights on a device, for tests that step it. Knows no step.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/cuda/cuda_lane.hpp"
#include "models/llama/llama_random.hpp"
#include "models/model.hpp"

namespace troupe::test {

inline constexpr std::int32_t small_vocabulary = 1024;

/// Two heads of 64 share K and V; embedding and head are one. Throws where the device has no memory.
inline std::shared_ptr<const models::loaded_model> small_model(kernels::cuda::cuda_lane& lane, std::int32_t layers,
                                                               std::int32_t context) {
  models::model_shape shape;
  shape.layers = layers, shape.width = 256, shape.heads = 4, shape.kv_heads = 2, shape.head_dim = 64,
  shape.feed_forward = 512;
  shape.vocabulary = small_vocabulary, shape.context = context, shape.rms_eps = 1e-5f, shape.rope_base = 10000.0f,
  shape.rope_dims = 64;
  auto made = models::make_random_llama(
      shape, true, lane, [&](models::matrix_role, std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
        return lane.random_matrix("bf16", rows, cols, seed);
      });
  auto model = std::make_shared<models::loaded_model>();
  model->network = std::move(made).value_or_throw();
  return model;
}

}  // namespace troupe::test
