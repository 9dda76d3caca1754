// Measures the products on the device: each matrix alone, and the matrices of a decode step as one captured chain, for
// several launch shapes; prints time, bytes a second, and the share of what a read-only kernel reaches in the same run.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda/small_products.cuh"

namespace {

using namespace troupe::kernels::cuda;

void must(troupe::result<void> done) {
  if (done) return;
  std::printf("FAIL %s\n", done.why().text.c_str());
  std::exit(1);
}
template <class T>
T must(troupe::result<T> r) {
  if (!r) {
    std::printf("FAIL %s\n", r.why().text.c_str());
    std::exit(1);
  }
  return std::move(*r);
}

__global__ void read_all(const uint4* from, long count, unsigned* out) {
  unsigned sum = 0;
  const long step = static_cast<long>(gridDim.x) * blockDim.x;
  long i = blockIdx.x * static_cast<long>(blockDim.x) + threadIdx.x;
  for (; i + 7 * step < count; i += 8 * step) {
    uint4 v[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) v[j] = __ldcs(from + i + j * step);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  if (sum == 0x12345678u) *out = sum;
}

// Median microseconds of a captured graph's replays.
double time_graph(cudaStream_t on, int replays, const std::function<void()>& record) {
  cudaGraph_t g = nullptr;
  cudaGraphExec_t exec = nullptr;
  must(check(cudaStreamBeginCapture(on, cudaStreamCaptureModeThreadLocal), "capture"));
  record();
  must(check(cudaStreamEndCapture(on, &g), "end of capture"));
  must(check(cudaGetLastError(), "launches"));
  must(check(cudaGraphInstantiate(&exec, g, 0), "instantiating"));
  auto begin = must(make_event(true)), end = must(make_event(true));
  std::vector<double> times;
  for (int i = 0; i < replays + 3; ++i) {
    must(check(cudaEventRecord(begin.get(), on), "event"));
    must(check(cudaGraphLaunch(exec, on), "graph"));
    must(check(cudaEventRecord(end.get(), on), "event"));
    must(check(cudaStreamSynchronize(on), "replay"));
    float ms = 0.0f;
    must(check(cudaEventElapsedTime(&ms, begin.get(), end.get()), "time"));
    if (i >= 3) times.push_back(ms * 1000.0);
  }
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(g);
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

struct model_shape {
  const char* name;
  int layers, width, qkv, attended, feed, vocab;
};
constexpr model_shape llama_8b{"llama-8b", 32, 4096, 6144, 4096, 14336, 128256};
constexpr model_shape qwen_06b{"qwen-0.6b", 28, 1024, 4096, 2048, 3072, 151936};

struct weights {
  std::vector<std::unique_ptr<device_matrix>> layer[4];
  std::unique_ptr<device_matrix> head;
  double bytes = 0.0;
};

weights make_weights(const model_shape& m, weight_type type, weight_type head, cudaStream_t on) {
  weights w;
  const int shapes[4][2] = {{m.qkv, m.width}, {m.width, m.attended}, {2 * m.feed, m.width}, {m.width, m.feed}};
  for (int l = 0; l < m.layers; ++l)
    for (int i = 0; i < 4; ++i) {
      w.layer[i].push_back(must(random_matrix(type, shapes[i][0], shapes[i][1], l * 4 + i, on)));
      w.bytes += w.layer[i].back()->bytes;
    }
  w.head = must(random_matrix(head, m.vocab, m.width, 999, on));
  w.bytes += w.head->bytes;
  return w;
}

struct activations {
  device_buffer hidden, gain, qkv, gated, logits;
};
activations make_activations(const model_shape& m, int rows) {
  activations a{must(allocate_device(rows * m.width * 4L)), must(allocate_device(m.width * 4L)),
                must(allocate_device(rows * 2L * std::max(m.qkv, m.width))), must(allocate_device(rows * 2L * m.feed)),
                must(allocate_device(std::min(rows, 64) * 4L * m.vocab))};
  std::vector<float> ones(std::max<long>(m.width, static_cast<long>(rows) * m.width));
  for (std::size_t i = 0; i < ones.size(); ++i) ones[i] = 1.0f + static_cast<float>(rand() % 1000) / 1000.0f;
  must(check(cudaMemcpy(a.hidden.data(), ones.data(), rows * m.width * 4L, cudaMemcpyHostToDevice), "copy"));
  must(check(cudaMemcpy(a.gain.data(), ones.data(), m.width * 4L, cudaMemcpyHostToDevice), "copy"));
  return a;
}

using launcher = void (*)(const product&, int, int, cudaStream_t);

product layer_product(const model_shape& m, const weights& w, activations& a, int rows, int layer, int op) {
  product p;
  p.w = op < 4 ? w.layer[op][layer].get() : w.head.get();
  p.rows = rows;
  p.eps = 1e-5f;
  p.gain = a.gain.as<float>();
  p.hidden = a.hidden.as<float>();
  p.x_stride = m.width;
  if (op == 0) p.out = a.qkv.data(), p.out_stride = m.qkv, p.output = product_output::bf16;
  if (op == 1)
    p.x = a.qkv.as<bf16>(), p.x_stride = m.attended, p.out = a.hidden.data(), p.out_stride = m.width,
    p.output = product_output::add_f32;
  if (op == 2) p.out = a.gated.data(), p.out_stride = m.feed, p.output = product_output::silu_bf16;
  if (op == 3)
    p.x = a.gated.as<bf16>(), p.x_stride = m.feed, p.out = a.hidden.data(), p.out_stride = m.width,
    p.output = product_output::add_f32;
  if (op == 4) p.out = a.logits.data(), p.out_stride = m.vocab, p.output = product_output::f32;
  return p;
}

double peak = 4.63;

struct tried_shape {
  const char* name;
  launcher use;
  int blocks;  // an SM
  int (*bytes)(int k_padded, int rows);
  bool fits(int k_padded, int rows) const { return bytes(k_padded, rows) <= 227 * 1024; }
};
template <class F, int Depth>
tried_shape shape_of(const char* name, int blocks = 1) {
  return {name, launch_small<F, Depth>, blocks, small_shape<F, Depth>::bytes};
}

void chain(const model_shape& m, const char* type, const tried_shape& shape, const weights& w, int rows, int sms,
           cudaStream_t on) {
  if (!shape.fits(static_cast<int>(w.layer[3][0]->k_padded), rows)) return;
  const launcher use = shape.use, head = shape.use;
  auto a = make_activations(m, rows);
  const double whole = time_graph(on, 15, [&] {
    for (int l = 0; l < m.layers; ++l)
      for (int op = 0; op < 4; ++op) use(layer_product(m, w, a, rows, l, op), sms, shape.blocks, on);
    head(layer_product(m, w, a, rows, 0, 4), sms, shape.blocks, on);
  });
  if (rows == 8) {
    std::printf("%-9s %-5s %-12s rows %d chain %8.1f us share %.3f\n", m.name, type, shape.name, rows, whole,
                w.bytes / whole / 1e6 / peak);
    return;
  }
  std::printf("%-9s %-5s %-12s rows %d chain %8.1f us %5.2f TB/s share %.3f |", m.name, type, shape.name, rows, whole,
              w.bytes / whole / 1e6, w.bytes / whole / 1e6 / peak);
  for (int op = 0; op < 5; ++op) {  // alone, back to back over all layers' matrices
    double bytes = 0.0;
    const double us = time_graph(on, 5, [&] {
      for (int l = 0; l < m.layers; ++l) {
        const product p = layer_product(m, w, a, rows, op < 4 ? l : 0, op);
        (op < 4 ? use : head)(p, sms, shape.blocks, on);
        bytes += p.w->bytes;
        if (op == 4 && l == 3) break;
      }
    });
    std::printf(" %.2f", bytes / us / 1e6);
  }
  std::printf("\n");
  std::fflush(stdout);
}

// A layer's four products and the head through the engine, rows at a time; TFLOP/s (many rows) and TB/s of weights.
void engine_rows(const model_shape& m, const char* type, const weights& w, products& engine,
                 std::initializer_list<int> rows_list, cudaStream_t on) {
  for (int rows : rows_list) {
    auto a = make_activations(m, rows);
    double layer_us = 0.0;
    std::printf("%-9s %-5s rows %5d:", m.name, type, rows);
    for (int op = 0; op < 4; ++op) {
      const int count = rows > 1000 ? 4 : m.layers;
      must(engine.reserve(rows, *w.layer[op][0]));
      const double us = time_graph(on, 7,
                                   [&] {
                                     for (int l = 0; l < count; ++l)
                                       must(engine.linear(layer_product(m, w, a, rows, l, op), on));
                                   }) /
                        count;
      layer_us += us;
      const double n = static_cast<double>(w.layer[op][0]->rows), k = static_cast<double>(w.layer[op][0]->cols);
      std::printf("  %8.1f us %5.0f TF %.2f TB", us, 2.0 * n * k * rows / us / 1e6, w.layer[op][0]->bytes / us / 1e6);
    }
    std::printf("  | layers %.0f us, %.0f rows/s", layer_us * m.layers, rows / (layer_us * m.layers) * 1e6);
    if (rows <= 256) {  // the products as a decode step has them, one after the other
      const double whole = time_graph(on, 9, [&] {
        for (int i = 0; i < m.layers * 4; ++i) {
          must(engine.chain(layer_product(m, w, a, rows, i / 4, i % 4), on));
        }
        must(engine.settle(on));
      });
      std::printf("; as a chain %.0f us, %.2f TB", whole, (w.bytes - w.head->bytes) / whole / 1e6);
    }
    std::printf("\n");
    std::fflush(stdout);
  }
}

// The wgmma kernel alone, x ready: a layer's four products, rows at a time.
void wide_rows(const model_shape& m, const char* type, const weights& w, std::initializer_list<int> rows_list,
               cudaStream_t on) {
  auto x = must(allocate_device(64 * 2L * std::max({m.feed, m.attended, m.width})));
  auto scales = must(allocate_device(m.feed * 4L));  // a scale for 64 columns of 64 tokens
  std::vector<bf16> host(x.bytes() / 2);
  for (auto& v : host) v = __float2bfloat16(static_cast<float>(rand() % 2001 - 1000) / 1000.0f);
  const std::vector<float> ones(static_cast<std::size_t>(m.feed), 1.0f);
  must(check(cudaMemcpy(x.data(), host.data(), x.bytes(), cudaMemcpyHostToDevice), "copy"));
  must(check(cudaMemcpy(scales.data(), ones.data(), scales.bytes(), cudaMemcpyHostToDevice), "copy"));
  for (int rows : rows_list)
    for (int split : {0, 1, 2, 4, 8}) {
      auto a = make_activations(m, rows);
      std::printf("%-9s %-5s rows %5d, wgmma alone, split %d:", m.name, type, rows, split);
      double layer_us = 0.0;
      for (int op = 0; op < 4; ++op) {
        const double us =
            time_graph(on, 7,
                       [&] {
                         for (int l = 0; l < m.layers; ++l) {
                           const product p = layer_product(m, w, a, rows, l, op);
                           wide_product(p, {x.data(), p.w->cols, scales.as<const float>(), nullptr}, on, {}, split);
                         }
                       }) /
            m.layers;
        layer_us += us;
        std::printf("  %8.1f us %.2f TB", us, w.layer[op][0]->bytes / us / 1e6);
      }
      std::printf("  | layers %.0f us\n", layer_us * m.layers);
      std::fflush(stdout);
    }
}

// The engine against plain cuBLASLt products of the same matrices, x and out in bf16.
void against_library(const model_shape& m, const weights& w, products& engine, cudaStream_t on) {
  auto library = must(load_cublas_lt());
  for (int rows : {1, 2, 4, 8, 16, 32, 64, 512, 8192}) {
    auto x = must(allocate_device(rows * 2L * std::max({m.feed, m.attended, m.width})));
    auto out = must(allocate_device(rows * 2L * std::max(2 * m.feed, m.qkv)));
    std::vector<bf16> host(x.bytes() / 2);
    for (auto& v : host) v = __float2bfloat16(static_cast<float>(rand() % 2001 - 1000) / 1000.0f);
    must(check(cudaMemcpy(x.data(), host.data(), x.bytes(), cudaMemcpyHostToDevice), "copy"));
    std::printf("%-9s bf16  rows %5d, ours / cuBLASLt us:", m.name, rows);
    for (int op = 0; op < 4; ++op) {
      const device_matrix& first = *w.layer[op][0];
      must(engine.reserve(rows, first));
      const int count = rows > 1000 ? 4 : m.layers;
      const double ours = time_graph(on, 7,
                                     [&] {
                                       for (int l = 0; l < count; ++l) {
                                         product p;
                                         p.w = w.layer[op][l].get();
                                         p.rows = rows;
                                         p.x = x.as<bf16>();
                                         p.x_stride = first.cols;
                                         p.out = out.data();
                                         p.out_stride = first.rows;
                                         must(engine.linear(p, on));
                                       }
                                     }) /
                          count;
      const double theirs =
          time_graph(on, 7,
                     [&] {
                       for (int l = 0; l < count; ++l) {
                         dense_product d;
                         d.w = w.layer[op][l]->data.data();
                         d.x = x.data();
                         d.out = out.data();
                         d.w_stride = first.k_padded, d.x_stride = first.cols, d.out_stride = first.rows;
                         d.n = static_cast<int>(first.rows), d.k = static_cast<int>(first.cols), d.rows = rows;
                         must(library->multiply(d, on));
                       }
                     }) /
          count;
      std::printf("  %7.1f/%7.1f = %.2f", ours, theirs, theirs / ours);
    }
    std::printf("\n");
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  auto stream = must(make_stream());
  cudaStream_t on = stream.get();
  int sms = 0;
  must(check(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0), "processors"));
  {
    auto big = must(allocate_device(4L << 30));
    must(check(cudaMemset(big.data(), 1, 4L << 30), "set"));
    const double us = time_graph(
        on, 9, [&] { read_all<<<sms * 8, 256, 0, on>>>(big.as<uint4>(), (4L << 30) / 16, big.as<unsigned>()); });
    peak = (4L << 30) / us / 1e6;
    std::printf("read-only kernel %.2f TB/s, %d SMs\n", peak, sms);
  }
  const std::string what = argc > 1 ? argv[1] : "small";
  if (what == "library") {
    auto engine = must(products::make());
    for (const model_shape& m : {llama_8b, qwen_06b}) {
      auto w = make_weights(m, weight_type::bf16, weight_type::bf16, on);
      against_library(m, w, *engine, on);
    }
    return 0;
  }
  if (what == "few") {  // 8 to 64 rows: what the engine chooses, and the wgmma kernel alone on the same matrices
    auto engine = must(products::make());
    for (auto [type, name] : {std::pair{weight_type::bf16, "bf16"}, {weight_type::fp8, "fp8"}}) {
      auto w = make_weights(llama_8b, type, type, on);
      engine_rows(llama_8b, name, w, *engine, {8, 16, 32, 64}, on);
      wide_rows(llama_8b, name, w, {8, 16, 32, 64}, on);
    }
    return 0;
  }
  if (what == "latency") {  // matrices of a few MB
    auto engine = must(products::make());
    auto w = make_weights(qwen_06b, weight_type::bf16, weight_type::bf16, on);
    engine_rows(qwen_06b, "bf16", w, *engine, {8, 16, 17, 32, 48, 64, 96, 128, 160, 192, 224, 256}, on);
    return 0;
  }
  if (what == "wide") {
    const std::string only = argc > 2 ? argv[2] : "";
    auto engine = must(products::make());
    for (const model_shape& m : {llama_8b, qwen_06b})
      for (auto [type, name] : {std::pair{weight_type::q4_0, "q4_0"},
                                {weight_type::q8_0, "q8_0"},
                                {weight_type::bf16, "bf16"},
                                {weight_type::fp8, "fp8"}}) {
        if (!only.empty() && only != name) continue;
        auto w = make_weights(m, type, type, on);
        engine_rows(m, name, w, *engine, {9, 64, 96, 128, 192, 256, 512, 2048, 8192}, on);
      }
    return 0;
  }
  // few rows: launch shapes of one weight type against each other
  const std::string only = argc > 2 ? argv[2] : "";
  const auto shapes = [&](const char* name, weight_type type, auto... tried) {
    if (!only.empty() && only != name) return;
    for (const model_shape& m : {llama_8b, qwen_06b}) {
      auto w = make_weights(m, type, type, on);
      int i = 0;
      (([&] {
         for (int rows : {1, 2, 4, 8})
           if (rows == 1 || i == 0) chain(m, name, tried, w, rows, sms, on);
         ++i;
       }()),
       ...);
    }
  };
  shapes("q4_0", weight_type::q4_0, shape_of<q4_0_format, 4>("4, 2/SM", 2), shape_of<q4_0_format, 8>("8 deep"),
         shape_of<q4_0_format, 6>("6, 2/SM", 2));
  shapes("q8_0", weight_type::q8_0, shape_of<q8_0_format, 3>("3, 2/SM", 2), shape_of<q8_0_format, 4>("4, 2/SM", 2));
  shapes("fp8", weight_type::fp8, shape_of<fp8_format, 3>("3, 2/SM", 2), shape_of<fp8_format, 4>("4, 2/SM", 2));
  shapes("bf16", weight_type::bf16, shape_of<bf16_format, 8>("8 deep"), shape_of<bf16_format, 6>("6 deep"),
         shape_of<bf16_format, 4>("4, 2/SM", 2), shape_of<bf16_format, 3>("3, 2/SM", 2));
  return 0;
}
