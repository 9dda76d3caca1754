// A stack of layers with random weights on one step's sequences: by the resident kernel, by the kernels that it stands
// for, and in double on the host. Used by resident_test.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "kernels/cuda/products.hpp"
#include "kernels/cuda/resident_layers.hpp"
#include "tests/gpu/attention_world.hpp"

namespace troupe::kernels::cuda {

template <class T>
inline T given_or_exit(troupe::result<T> r) {
  if (r) return std::move(*r);
  std::printf("FAIL  %s\n", r.why().text.c_str());
  std::exit(1);
}

inline void succeed(const troupe::result<void>& done) {
  if (done) return;
  std::printf("FAIL  %s\n", done.why().text.c_str());
  std::exit(1);
}

struct stack_shape {
  const char* name;
  int layers, width, feed;
  head_shape heads;
  int attended() const { return heads.heads * heads.head_dim; }
  int qkv() const { return (heads.heads + 2 * heads.kv_heads) * heads.head_dim; }
};

/// A stack of layers with random weights on one step's sequences.
class layer_stack {
public:
  layer_stack(const stack_shape& m, weight_type type, std::vector<sequence_shape> sequences, unsigned seed,
              contents how, cudaStream_t on)
      : m_(m), world_(m.heads, std::move(sequences), seed, m.layers, how), engine_(given_or_exit(products::make())),
        random_(seed), on_(on) {
    world_.tables_.one_row_each = true;
    const auto make = [&](int rows, int cols) {
      matrices_.push_back(given_or_exit(random_matrix(type, rows, cols, random_(), on)));
      return matrices_.back().get();
    };
    std::uniform_real_distribution<float> around(0.5f, 1.5f);
    std::vector<float> gains(static_cast<std::size_t>(m.width));
    for (float& g : gains) g = around(random_);
    gain_ = device_array<float>(gains);
    for (int l = 0; l < m.layers; ++l)
      layers_.push_back({make(m.qkv(), m.width), make(m.width, m.attended()), make(2 * m.feed, m.width),
                         make(m.width, m.feed), gain_.data(), gain_.data()});
    const auto rows = static_cast<std::size_t>(world_.rows());
    qkv_ = device_array<bf16>(rows * static_cast<std::size_t>(m.qkv()));
    attended_ = device_array<bf16>(rows * static_cast<std::size_t>(m.attended()));
    gated_ = device_array<bf16>(rows * static_cast<std::size_t>(m.feed));
    hidden_ = device_array<float>(rows * static_cast<std::size_t>(m.width));
    workspace_ = device_array<std::byte>(
        static_cast<std::size_t>(resident_bytes(layers_[0], world_.rows(), m.heads.heads, m.heads.head_dim)));
    workspace_.fill(0);
    for (const auto& w : matrices_) succeed(engine_->reserve(world_.rows(), *w));
  }

  std::vector<float> random_input() {
    std::normal_distribution<float> normal;
    std::vector<float> x(hidden_.size());
    for (float& f : x) f = normal(random_);
    return x;
  }
  void set(const std::vector<float>& x) {
    hidden_.upload(x);
    world_.plan(on_);
    must(cudaStreamSynchronize(on_), "planning");
  }
  std::vector<float> result() {
    must(cudaStreamSynchronize(on_), "running");
    must(cudaGetLastError(), "running");
    return hidden_.download();
  }
  void restore() { world_.reset(); }
  /// As after so many steps, everything that they left in words being `word`.
  void age(std::uint32_t turns, unsigned long long word) {
    std::vector<std::byte> all(workspace_.size());
    for (std::size_t at = 256; at < all.size(); at += 8) std::memcpy(&all[at], &word, 8);
    std::memcpy(all.data(), &turns, 4);
    workspace_.upload(all);
  }
  bool clear() const {
    const auto all = workspace_.download();
    return std::all_of(all.begin(), all.end(), [](std::byte b) { return b == std::byte{}; });
  }
  std::uint32_t turns() const {
    std::uint32_t count = 0;
    std::memcpy(&count, workspace_.download().data(), 4);
    return count;
  }

  bool serves() { return resident_serves(call()); }
  void run_resident_kernel() { run_resident(call(), on_); }
  void run_separately() {
    for (int l = 0; l < m_.layers; ++l) {
      const resident_layer& w = layers_[static_cast<std::size_t>(l)];
      linear(normed(w.qkv, qkv_.data(), m_.qkv(), product_output::bf16));
      attention_call attention = world_.call(l, true);
      attention.qkv = qkv_.data();
      attention.out = attended_.data();
      attend_decode(attention, on_);
      linear(given(w.output, attended_.data(), m_.attended()));
      linear(normed(w.gate_up, gated_.data(), m_.feed, product_output::silu_bf16));
      linear(given(w.down, gated_.data(), m_.feed));
    }
  }
  /// What the step should leave in hidden, in double, from x before it: nothing rounds but K and V that lie there.
  std::vector<double> in_double(const std::vector<float>& x) {
    std::vector<double> hidden(x.begin(), x.end());
    for (int l = 0; l < m_.layers; ++l) {
      const resident_layer& w = layers_[static_cast<std::size_t>(l)];
      const auto qkv = values_of(*w.qkv), output = values_of(*w.output), gate_up = values_of(*w.gate_up),
                 down = values_of(*w.down);
      for (int s = 0; s < rows(); ++s) {  // a row each
        const auto from = hidden.begin() + static_cast<std::ptrdiff_t>(world_.first_row(s)) * m_.width;
        const auto add = [&](const std::vector<double>& more) {
          std::transform(more.begin(), more.end(), from, from, std::plus<>());
        };
        add(times(output, attend(l, s, times(qkv, norm(from)))));
        auto gate = times(gate_up, norm(from));
        for (int i = 0; i < m_.feed; ++i) {
          double& g = gate[static_cast<std::size_t>(i)];
          g = g / (1.0 + std::exp(-g)) * gate[static_cast<std::size_t>(i + m_.feed)];
        }
        gate.resize(static_cast<std::size_t>(m_.feed));
        add(times(down, gate));
      }
    }
    return hidden;
  }
  double bytes() const {
    double all = 0;
    for (const auto& w : matrices_) all += static_cast<double>(w->bytes);
    return all;
  }
  attention_world& world() { return world_; }
  int rows() const { return world_.rows(); }
  int width() const { return m_.width; }

private:
  /// [columns][rows] of a matrix, by its products with unit vectors (products_test holds those against the file's
  /// bytes).
  std::vector<std::vector<float>> values_of(const device_matrix& w) {
    const auto columns = static_cast<std::size_t>(w.cols), n = static_cast<std::size_t>(w.rows);
    std::vector<bf16> units(columns * columns, __float2bfloat16(0.0f));
    for (std::size_t c = 0; c < columns; ++c) units[c * columns + c] = __float2bfloat16(1.0f);
    const device_array<bf16> x(units);
    device_array<float> out(columns * n);
    for (std::size_t c = 0; c < columns; ++c) {
      product p;
      p.w = &w;
      p.rows = 1;
      p.x = x.data() + c * columns;
      p.x_stride = w.cols;
      p.out = out.data() + c * n;
      p.out_stride = w.rows;
      p.output = product_output::f32;
      linear(p);
    }
    must(cudaStreamSynchronize(on_), "weights");
    const std::vector<float> all = out.download();
    std::vector<std::vector<float>> values(columns);
    for (std::size_t c = 0; c < columns; ++c)
      values[c].assign(all.begin() + static_cast<std::ptrdiff_t>(c * n),
                       all.begin() + static_cast<std::ptrdiff_t>((c + 1) * n));
    return values;
  }
  static std::vector<double> times(const std::vector<std::vector<float>>& w, const std::vector<double>& x) {
    std::vector<double> out(w[0].size());
    for (std::size_t c = 0; c < w.size(); ++c)
      for (std::size_t n = 0; n < out.size(); ++n) out[n] += w[c][n] * x[c];
    return out;
  }
  template <class From>
  std::vector<double> norm(From from) const {
    std::vector<double> x(from, from + m_.width);
    const std::vector<float> gain = gain_.download();
    const double mean = std::inner_product(x.begin(), x.end(), x.begin(), 0.0) / m_.width;
    for (std::size_t i = 0; i < x.size(); ++i) x[i] *= gain[i] / std::sqrt(mean + 1e-5);
    return x;
  }
  void rotate(double* head, int position) const {
    const int half = m_.heads.rotated / 2;
    for (int i = 0; i < half; ++i) {
      double &a = head[m_.heads.interleaved ? 2 * i : i], &b = head[m_.heads.interleaved ? 2 * i + 1 : i + half];
      const double angle = position * world_.frequency(i), u = a, v = b;
      a = u * std::cos(angle) - v * std::sin(angle);
      b = u * std::sin(angle) + v * std::cos(angle);
    }
  }
  std::vector<double> attend(int layer, int s, std::vector<double> qkv) const {
    const int D = m_.heads.head_dim, past = world_.sequences()[static_cast<std::size_t>(s)].past;
    const auto size = static_cast<std::size_t>(D);
    for (int h = 0; h < m_.heads.heads + m_.heads.kv_heads; ++h) rotate(qkv.data() + h * D, past);
    std::vector<double> out(static_cast<std::size_t>(m_.attended()));
    for (int h = 0; h < m_.heads.heads; ++h) {
      const int kv_head = h / (m_.heads.heads / m_.heads.kv_heads);
      std::vector<std::vector<double>> keys, values;
      for (int t = 0; t <= past; ++t) {
        keys.emplace_back(size), values.emplace_back(size);
        if (t < past) {
          world_.key_value(layer, s, kv_head, t, keys.back(), values.back());
          continue;
        }
        const double* newest = qkv.data() + (m_.heads.heads + kv_head) * D;
        std::copy(newest, newest + D, keys.back().begin());
        std::copy(newest + m_.heads.kv_heads * D, newest + (m_.heads.kv_heads + 1) * D, values.back().begin());
      }
      std::vector<double> weight;
      for (const auto& k : keys)
        weight.push_back(std::inner_product(k.begin(), k.end(), qkv.data() + h * D, 0.0) / std::sqrt(D));
      const double best = *std::max_element(weight.begin(), weight.end());
      double sum = 0;
      for (double& w : weight) sum += w = std::exp(w - best);
      for (std::size_t t = 0; t < weight.size(); ++t)
        for (int d = 0; d < D; ++d)
          out[static_cast<std::size_t>(h * D + d)] += weight[t] / sum * values[t][static_cast<std::size_t>(d)];
    }
    return out;
  }

  resident_call call() {
    resident_call c;
    c.layers = layers_;
    c.eps = 1e-5f;
    c.hidden = hidden_.data();
    c.hidden_stride = m_.width;
    c.attention = world_.call(0, true);
    c.workspace = workspace_.data();
    c.workspace_bytes = static_cast<std::int64_t>(workspace_.size());
    return c;
  }
  product normed(const device_matrix* w, bf16* out, int out_stride, product_output how) {
    product p;
    p.w = w;
    p.rows = world_.rows();
    p.hidden = hidden_.data();
    p.x_stride = m_.width;
    p.gain = gain_.data();
    p.eps = 1e-5f;
    p.out = out;
    p.out_stride = out_stride;
    p.output = how;
    return p;
  }
  product given(const device_matrix* w, const bf16* x, int x_stride) {
    product p;
    p.w = w;
    p.rows = world_.rows();
    p.x = x;
    p.x_stride = x_stride;
    p.out = hidden_.data();
    p.out_stride = m_.width;
    p.output = product_output::add_f32;
    return p;
  }
  void linear(const product& p) { succeed(engine_->linear(p, on_)); }

  stack_shape m_;
  attention_world world_;
  std::unique_ptr<products> engine_;
  std::mt19937 random_;
  cudaStream_t on_;
  std::vector<std::unique_ptr<device_matrix>> matrices_;
  std::vector<resident_layer> layers_;
  device_array<float> gain_, hidden_;
  device_array<bf16> qkv_, attended_, gated_;
  device_array<std::byte> workspace_;
};

}  // namespace troupe::kernels::cuda
