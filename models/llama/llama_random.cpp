// Random weights by role, norms of ones. Knows no device.
#include "models/llama/llama_random.hpp"

#include <string>
#include <vector>

#include "models/llama/llama.hpp"

namespace troupe::models {
namespace {

struct named_shape {
  std::string_view name;
  bool tied;
  model_shape shape;
};

const std::vector<named_shape>& shapes() {
  //                                        layers width heads kv dim  ff    vocab   context eps  base   dims
  static const std::vector<named_shape> all{
      {"llama-8b", false, {32, 4096, 32, 8, 128, 14336, 128256, 131072, 1e-5f, 500000.0f, 128, {}}},
      {"llama-1b", true, {16, 2048, 32, 8, 64, 8192, 128256, 131072, 1e-5f, 500000.0f, 64, {}}},
      {"qwen-0.6b", true, {28, 1024, 16, 8, 128, 3072, 151936, 40960, 1e-6f, 1000000.0f, 128, {}}},
      {"smollm-135m", true, {30, 576, 9, 3, 64, 1536, 49152, 8192, 1e-5f, 100000.0f, 64, {}}},
  };
  return all;
}

const named_shape* find(std::string_view name) {
  for (const named_shape& one : shapes())
    if (one.name == name) return &one;
  return nullptr;
}

}  // namespace

result<model_shape> known_shape(std::string_view name) {
  if (const named_shape* one = find(name)) return one->shape;
  std::string known;
  for (const named_shape& one : shapes()) known += (known.empty() ? "" : ", ") + std::string(one.name);
  return error{errc::invalid_argument, "There is no shape named '" + std::string(name) + "' (known: " + known + ").",
               "shape"};
}

bool tied_shape(std::string_view name) {
  const named_shape* one = find(name);
  return one != nullptr && one->tied;
}

result<std::unique_ptr<const network>> make_random_llama(model_shape shape, bool tied, kernels::lane& lane,
                                                         const matrix_source& source) {
  llama_weights weights;
  std::uint64_t seed = 1;
  result<void> so_far;
  const auto make = [&](matrix_role role, std::int64_t rows, std::int64_t cols) {
    auto made = source(role, rows, cols, seed++);
    if (made) return *std::move(made);
    if (so_far) so_far = std::move(made).why();
    return kernels::matrix();
  };
  const std::int64_t width = shape.width;
  auto ones = lane.allocate(width * 4);
  if (!ones) return std::move(ones).why();
  weights.norms = *std::move(ones);
  const std::vector<float> values(static_cast<std::size_t>(width), 1.0f);
  if (auto r = lane.write(weights.norms, 0, std::as_bytes(std::span(values))); !r) return std::move(r).why();
  const memory::tensor_view norm{weights.norms.data(), memory::dtype::f32, 1, width, width * 4};
  weights.output_norm = norm;
  weights.embedding = make(matrix_role::embedding, shape.vocabulary, width);
  for (std::int32_t i = 0; so_far && i < shape.layers; ++i)
    weights.layers.push_back({norm, make(matrix_role::layer, shape.qkv_width(), width),
                              make(matrix_role::layer, width, shape.attention_width()), norm,
                              make(matrix_role::layer, 2 * std::int64_t{shape.feed_forward}, width),
                              make(matrix_role::layer, width, shape.feed_forward)});
  if (!tied) weights.head = make(matrix_role::head, shape.vocabulary, width);
  if (!so_far) return std::move(so_far).why();
  return std::unique_ptr<const network>(std::make_unique<llama>(std::move(shape), std::move(weights)));
}

}  // namespace troupe::models
