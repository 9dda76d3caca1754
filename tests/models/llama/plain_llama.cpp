// The plain forward pass. Knows the names of weights by itself, so that a mix-up in the loader shows.
#include "tests/models/llama/plain_llama.hpp"

#include <cmath>
#include <string>

#include "tests/support/dequantise.hpp"

namespace troupe::test {
namespace {

using row = std::vector<double>;
using rows = std::vector<row>;

std::vector<float> weights(const models::gguf_file& file, const std::string& name) {
  return dequantise(*file.view(name));
}

rows times(const rows& x, const std::vector<float>& w) {
  const std::size_t cols = x.front().size();
  rows out(x.size(), row(w.size() / cols, 0.0));
  for (std::size_t t = 0; t < x.size(); ++t) {
    for (std::size_t r = 0; r < out[t].size(); ++r) {
      for (std::size_t c = 0; c < cols; ++c) out[t][r] += x[t][c] * w[r * cols + c];
    }
  }
  return out;
}

void add(rows& x, const rows& y) {
  for (std::size_t t = 0; t < x.size(); ++t) {
    for (std::size_t i = 0; i < x[t].size(); ++i) x[t][i] += y[t][i];
  }
}

rows normed(rows x, const std::vector<float>& w, double eps) {
  for (row& r : x) {
    double squares = 0;
    for (const double v : r) squares += v * v;
    const double scale = 1 / std::sqrt(squares / static_cast<double>(r.size()) + eps);
    for (std::size_t i = 0; i < r.size(); ++i) r[i] *= scale * w[i];
  }
  return x;
}

void rotate(rows& x, const models::model_shape& shape) {
  const auto dim = static_cast<std::size_t>(shape.head_dim);
  for (std::size_t t = 0; t < x.size(); ++t) {
    for (std::size_t head = 0; head < x[t].size() / dim; ++head) {
      for (int pair = 0; pair < shape.rope_dims / 2; ++pair) {
        const double factor = shape.rope_factors.empty() ? 1.0 : shape.rope_factors[static_cast<std::size_t>(pair)];
        const double angle = static_cast<double>(t) * std::pow(shape.rope_base, -2.0 * pair / shape.rope_dims) / factor;
        double* at = x[t].data() + head * dim + 2 * static_cast<std::size_t>(pair);
        const double a = at[0];
        const double b = at[1];
        at[0] = a * std::cos(angle) - b * std::sin(angle);
        at[1] = a * std::sin(angle) + b * std::cos(angle);
      }
    }
  }
}

rows attend(const rows& q, const rows& k, const rows& v, const models::model_shape& shape) {
  const auto dim = static_cast<std::size_t>(shape.head_dim);
  const auto group = static_cast<std::size_t>(shape.heads / shape.kv_heads);
  rows out(q.size(), row(q.front().size(), 0.0));
  for (std::size_t t = 0; t < q.size(); ++t) {
    for (std::size_t head = 0; head < static_cast<std::size_t>(shape.heads); ++head) {
      const std::size_t shared = head / group * dim;
      double total = 0;
      for (std::size_t s = 0; s <= t; ++s) {
        double dot = 0;
        for (std::size_t i = 0; i < dim; ++i) dot += q[t][head * dim + i] * k[s][shared + i];
        const double weight = std::exp(dot / std::sqrt(static_cast<double>(dim)));
        total += weight;
        for (std::size_t i = 0; i < dim; ++i) out[t][head * dim + i] += weight * v[s][shared + i];
      }
      for (std::size_t i = 0; i < dim; ++i) out[t][head * dim + i] /= total;
    }
  }
  return out;
}

}  // namespace

std::vector<std::vector<double>> plain_llama(const models::gguf_file& file, const models::model_shape& shape,
                                             std::span<const std::int32_t> ids) {
  const auto embedding = weights(file, "token_embd.weight");
  rows x;
  for (const std::int32_t id : ids) {
    const auto at = embedding.begin() + id * shape.width;
    x.emplace_back(at, at + shape.width);
  }
  for (int layer = 0; layer < shape.layers; ++layer) {
    const std::string p = "blk." + std::to_string(layer) + ".";
    rows h = normed(x, weights(file, p + "attn_norm.weight"), shape.rms_eps);
    rows q = times(h, weights(file, p + "attn_q.weight"));
    rows k = times(h, weights(file, p + "attn_k.weight"));
    rows v = times(h, weights(file, p + "attn_v.weight"));
    rotate(q, shape);
    rotate(k, shape);
    add(x, times(attend(q, k, v, shape), weights(file, p + "attn_output.weight")));
    h = normed(x, weights(file, p + "ffn_norm.weight"), shape.rms_eps);
    rows gate = times(h, weights(file, p + "ffn_gate.weight"));
    const rows up = times(h, weights(file, p + "ffn_up.weight"));
    for (std::size_t t = 0; t < gate.size(); ++t) {
      for (std::size_t i = 0; i < gate[t].size(); ++i) gate[t][i] *= up[t][i] / (1 + std::exp(-gate[t][i]));
    }
    add(x, times(gate, weights(file, p + "ffn_down.weight")));
  }
  x = normed(x, weights(file, "output_norm.weight"), shape.rms_eps);
  return times(x, file.find_tensor("output.weight") != nullptr ? weights(file, "output.weight") : embedding);
}

}  // namespace troupe::test
