// Shape and weights of llama files. Knows keys and tensor names, not the forward pass.
// Source: the GGUF specification's "llama" section; "rope_freqs.weight" as written for Llama 3.1.
#include "models/llama/llama_load.hpp"

#include <cmath>
#include <span>
#include <utility>

#include "models/llama/llama.hpp"

namespace troupe::models {
namespace {

// Far above any model known; keeps every product of two figures below 2^62.
constexpr std::uint64_t most = 1 << 24;
constexpr std::uint64_t most_layers = 4096;

error bad(const gguf_file& file, std::string_view key, const std::string& reason, errc code = errc::corrupt_file) {
  return {code, file.name() + ": key \"" + std::string(key) + "\" " + reason, {}};
}

result<void> read_size(const gguf_file& file, const char* key, std::int32_t& to, std::int64_t otherwise = -1,
                       std::uint64_t limit = most) {
  auto value =
      otherwise < 0 ? file.unsigned_integer(key) : file.unsigned_integer_or(key, static_cast<std::uint64_t>(otherwise));
  if (!value) return std::move(value).why();
  if (*value < 1 || *value > limit) return bad(file, key, "is " + std::to_string(*value));
  to = static_cast<std::int32_t>(*value);
  return {};
}

result<void> read_positive(const gguf_file& file, const char* key, float& to, double otherwise) {
  auto value = otherwise <= 0 ? file.number(key) : file.number_or(key, otherwise);
  if (!value) return std::move(value).why();
  to = static_cast<float>(*value);
  if (!std::isfinite(to) || to <= 0) return bad(file, key, "is not a positive number");
  return {};
}

/// Sizes whose defaults and limits depend on others, in order.
result<void> read_heads(const gguf_file& file, model_shape& shape) {
  if (auto r = read_size(file, "llama.attention.head_count", shape.heads); !r) return r;
  if (auto r = read_size(file, "llama.attention.head_count_kv", shape.kv_heads, shape.heads); !r) return r;
  if (shape.heads % shape.kv_heads != 0) {
    return bad(
        file, "llama.attention.head_count_kv",
        "is " + std::to_string(shape.kv_heads) + ", which does not divide " + std::to_string(shape.heads) + " heads");
  }
  if (auto r = read_size(file, "llama.attention.key_length", shape.head_dim, shape.width / shape.heads); !r) return r;
  std::int32_t value_length = 0;
  if (auto r = read_size(file, "llama.attention.value_length", value_length, shape.head_dim); !r) return r;
  if (value_length != shape.head_dim) {
    return bad(file, "llama.attention.value_length", "differs from the keys' length", errc::unsupported);
  }
  if ((std::int64_t{shape.heads} + 2 * shape.kv_heads) * shape.head_dim > static_cast<std::int64_t>(most)) {
    return bad(file, "llama.attention.head_count", "and \"llama.attention.key_length\" are too large together");
  }
  return {};
}

result<void> read_rope(const gguf_file& file, model_shape& shape) {
  if (auto r = read_positive(file, "llama.rope.freq_base", shape.rope_base, 10000.0); !r) return r;
  if (auto r = read_size(file, "llama.rope.dimension_count", shape.rope_dims, shape.head_dim); !r) return r;
  if (shape.rope_dims % 2 != 0 || shape.rope_dims > shape.head_dim) {
    return bad(file, "llama.rope.dimension_count",
               "is " + std::to_string(shape.rope_dims) + " of a head's " + std::to_string(shape.head_dim));
  }
  auto scaling = file.string_or("llama.rope.scaling.type", "none");
  if (!scaling) return std::move(scaling).why();
  if (*scaling == "linear") {
    float factor = 1;
    if (auto r = read_positive(file, "llama.rope.scaling.factor", factor, 0); !r) return r;
    shape.rope_factors.assign(static_cast<std::size_t>(shape.rope_dims / 2), factor);
  } else if (*scaling != "none") {
    return bad(file, "llama.rope.scaling.type", "is \"" + std::string(*scaling) + "\"; only linear scaling is known",
               errc::unsupported);
  }
  return {};
}

/// Copies all norm vectors into one buffer of the lane, in the order added.
class norm_shelf {
public:
  static result<norm_shelf> create(kernels::lane& lane, std::int64_t vectors, std::int64_t width) {
    auto bytes = lane.allocate(vectors * width * 4);
    if (!bytes) return std::move(bytes).why();
    return norm_shelf(lane, *std::move(bytes), width);
  }
  result<memory::tensor_view> add(weight_reader& reader, const std::string& name) {
    auto values = reader.vector(name, width_);
    if (!values) return std::move(values).why();
    const std::int64_t offset = next_++ * width_ * 4;
    if (auto r = lane_->write(bytes_, offset, std::as_bytes(std::span(*values))); !r) return std::move(r).why();
    return memory::tensor_view{static_cast<std::byte*>(bytes_.data()) + offset, memory::dtype::f32, 1, width_,
                               width_ * 4};
  }
  memory::buffer release() && { return std::move(bytes_); }

private:
  norm_shelf(kernels::lane& lane, memory::buffer bytes, std::int64_t width)
      : lane_(&lane), bytes_(std::move(bytes)), width_(width) {}
  kernels::lane* lane_;
  memory::buffer bytes_;
  std::int64_t width_;
  std::int64_t next_ = 0;
};

/// Puts a result's value in its place, or keeps the error.
template <class T>
result<void> assign(T& to, result<T> from) {
  if (!from) return std::move(from).why();
  to = *std::move(from);
  return {};
}

result<void> load_layer(weight_reader& reader, norm_shelf& norms, const model_shape& shape, std::int32_t index,
                        llama_layer& layer) {
  const std::string p = "blk." + std::to_string(index) + ".";
  const std::int64_t width = shape.width;
  const std::int64_t kv = std::int64_t{shape.kv_heads} * shape.head_dim;
  const std::int64_t q = shape.attention_width();
  const std::int64_t ff = shape.feed_forward;
  if (auto r = assign(layer.attention_norm, norms.add(reader, p + "attn_norm.weight")); !r) return r;
  if (auto r = assign(
          layer.qkv,
          reader.matrix({{p + "attn_q.weight", q}, {p + "attn_k.weight", kv}, {p + "attn_v.weight", kv}}, width));
      !r)
    return r;
  if (auto r = assign(layer.attention_output, reader.matrix({{p + "attn_output.weight", width}}, q)); !r) return r;
  if (auto r = assign(layer.mlp_norm, norms.add(reader, p + "ffn_norm.weight")); !r) return r;
  if (auto r = assign(layer.gate_up, reader.matrix({{p + "ffn_gate.weight", ff}, {p + "ffn_up.weight", ff}}, width));
      !r)
    return r;
  return assign(layer.down, reader.matrix({{p + "ffn_down.weight", width}}, ff));
}

}  // namespace

result<model_shape> read_llama_shape(const gguf_file& file) {
  model_shape shape;
  if (file.has("llama.expert_count")) {
    auto experts = file.unsigned_integer("llama.expert_count");
    if (!experts) return std::move(experts).why();
    if (*experts > 0)
      return bad(file, "llama.expert_count", "is set: mixtures of experts are not offered", errc::unsupported);
  }
  if (auto r = read_size(file, "llama.block_count", shape.layers, -1, most_layers); !r) return std::move(r).why();
  if (auto r = read_size(file, "llama.embedding_length", shape.width); !r) return std::move(r).why();
  if (auto r = read_size(file, "llama.feed_forward_length", shape.feed_forward); !r) return std::move(r).why();
  if (auto r = read_size(file, "llama.context_length", shape.context); !r) return std::move(r).why();
  if (auto r = read_positive(file, "llama.attention.layer_norm_rms_epsilon", shape.rms_eps, 0); !r)
    return std::move(r).why();
  if (auto r = read_heads(file, shape); !r) return std::move(r).why();
  if (auto r = read_rope(file, shape); !r) return std::move(r).why();
  // The embedding's rows, not "llama.vocab_size": files leave that out, and some pad the table.
  const gguf_tensor* embedding = file.find_tensor("token_embd.weight");
  const auto vocabulary = embedding == nullptr ? 0 : embedding->rows;
  if (vocabulary < 1 || vocabulary > static_cast<std::int64_t>(most)) {
    return error{errc::corrupt_file, file.name() + ": tensor \"token_embd.weight\" is missing or too large", {}};
  }
  shape.vocabulary = static_cast<std::int32_t>(vocabulary);
  return shape;
}

result<std::unique_ptr<const network>> load_llama(const gguf_file& file, kernels::lane& lane,
                                                  const load_progress& progress) {
  auto read = read_llama_shape(file);
  if (!read) return std::move(read).why();
  model_shape shape = *std::move(read);
  weight_reader reader(file, lane, progress);
  if (auto begun = reader.begin(); !begun) return std::move(begun).why();
  if (reader.has("rope_freqs.weight")) {
    auto factors = reader.vector("rope_freqs.weight", shape.rope_dims / 2);
    if (!factors) return std::move(factors).why();
    shape.rope_factors = *std::move(factors);
  }
  auto norms = norm_shelf::create(lane, 2 * std::int64_t{shape.layers} + 1, shape.width);
  if (!norms) return std::move(norms).why();
  llama_weights weights;
  const weight_name embedding{"token_embd.weight", shape.vocabulary};
  const bool tied = !reader.has("output.weight");
  if (auto r = assign(weights.embedding, reader.table(embedding, shape.width, tied)); !r) return std::move(r).why();
  for (std::int32_t i = 0; i < shape.layers; ++i) {
    llama_layer layer;  // grows with the layers that are really there, whatever block_count claims
    if (auto r = load_layer(reader, *norms, shape, i, layer); !r) return std::move(r).why();
    weights.layers.push_back(std::move(layer));
  }
  if (auto r = assign(weights.output_norm, norms->add(reader, "output_norm.weight")); !r) return std::move(r).why();
  if (!tied) {
    if (auto r = assign(weights.head, reader.matrix({{"output.weight", shape.vocabulary}}, shape.width)); !r)
      return std::move(r).why();
  }
  if (auto r = reader.finish(); !r) return std::move(r).why();
  weights.norms = std::move(*norms).release();
  return std::unique_ptr<const network>(std::make_unique<llama>(std::move(shape), std::move(weights)));
}

}  // namespace troupe::models
