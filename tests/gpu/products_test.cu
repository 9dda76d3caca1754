// Products on the device against a double-precision product of the same weights, dequantised here from the file's own
// bytes. A plain program: prints a line a case, PASS or FAIL, and returns the number of failures.
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/products.hpp"
#include "tests/support/dequantise.hpp"
#include "tests/support/random_rows.hpp"
#include "tests/support/random_seed.hpp"

namespace {

using namespace troupe::kernels::cuda;
using troupe::memory::dtype;
using troupe::memory::tensor_view;

void must(troupe::result<void> done) {
  if (done) return;
  std::printf("FAIL %s\n", done.why().text.c_str());
  std::exit(1);
}

std::mt19937_64 random_bits{troupe::test::random_seed()};
float normal() { return std::normal_distribution<float>{}(random_bits); }

struct file_matrix {
  dtype type;
  int rows, cols;
  std::string bytes;
  std::vector<float> values;
  tensor_view view() { return {bytes.data(), type, rows, cols, troupe::memory::row_size(type, cols)}; }
};

file_matrix random_file(dtype type, int rows, int cols) {
  const float spread = 1.0f / std::sqrt(static_cast<float>(cols));
  file_matrix m{type, rows, cols, troupe::test::random_rows(type, rows, cols, spread, random_bits()), {}};
  m.values = troupe::test::dequantise(m.view());
  return m;
}

/// Every scale three eighths of a bf16's last place above one: rounding scales would move all weights one way.
void raise_scales(file_matrix& m) {
  const auto bytes = static_cast<std::size_t>(troupe::memory::info(m.type).block_bytes);
  for (std::size_t at = 0; at < m.bytes.size(); at += bytes) m.bytes[at] = static_cast<char>((m.bytes[at] & ~7) | 3);
  m.values = troupe::test::dequantise(m.view());
}

template <class T>
T* on_device(const std::vector<T>& host) {
  void* p = nullptr;
  must(check(cudaMalloc(&p, host.size() * sizeof(T) + 256), "test memory"));
  must(check(cudaMemcpy(p, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice), "test copy"));
  must(check(cudaDeviceSynchronize(), "test copy"));  // of pageable memory it is over for the default stream alone
  return static_cast<T*>(p);
}

float fp8_rounded(float v) {
  const __nv_fp8_storage_t bits = __nv_cvt_float_to_fp8(v, __NV_SATFINITE, __NV_E4M3);
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(bits, __NV_E4M3)));
}

void round_row_to_fp8(float* v, int n) {
  float largest = 0.0f;
  for (int i = 0; i < n; ++i) largest = std::max(largest, std::abs(v[i]));
  const float scale = largest / 448.0f;
  for (int i = 0; i < n; ++i) v[i] = fp8_rounded(v[i] / scale) * scale;
}

void round_to_fp8(file_matrix& m) {
  for (int r = 0; r < m.rows; ++r) round_row_to_fp8(m.values.data() + static_cast<std::size_t>(r) * m.cols, m.cols);
}

struct given {
  weight_type type;
  dtype file;
  int n, k, rows;
  product_output output;
  bool norm;
  double drift = 0;    // most that outputs may be off all one way, if that is what is asked
  bool gated = false;  // x is gate|up
};

const char* name_of(weight_type t) {
  static constexpr const char* names[] = {"bf16", "f16", "fp8", "q8_0", "q4_0", "q4_1", "q8_16", "q8_1"};
  return names[static_cast<int>(t)];
}

int failures = 0;

void run_case(const given& c, file_matrix& file, const device_matrix& w, products& engine, cudaStream_t on) {
  const bool silu = c.output == product_output::silu_bf16,
             wide = c.output == product_output::f32 || c.output == product_output::add_f32;
  const int out_n = silu ? c.n / 2 : c.n;
  std::vector<float> hidden(static_cast<std::size_t>(c.rows) * c.k), gain(c.k);
  std::vector<bf16> x(hidden.size()), pairs(c.gated ? 2 * hidden.size() : 0);
  // Rows of very different size, so that one row's scale cannot serve another.
  for (int r = 0; r < c.rows; ++r)
    for (int i = 0; i < c.k; ++i) {
      const float v = normal() * std::ldexp(1.0f, 3 * (r % 7) - 6) * (i % 97 == 5 ? 30.0f : 1.0f);
      hidden[static_cast<std::size_t>(r) * c.k + i] = v;
      x[static_cast<std::size_t>(r) * c.k + i] = __float2bfloat16(v);
    }
  for (bf16& v : pairs) v = __float2bfloat16(normal());
  for (float& g : gain) g = 1.0f + 0.3f * normal();
  std::vector<float> before(static_cast<std::size_t>(c.rows) * out_n, std::nanf(""));
  if (c.output == product_output::add_f32)
    for (float& v : before) v = normal() * 0.01f;
  std::vector<bf16> before16(before.size(), __float2bfloat16(std::nanf("")));
  float* d_hidden = on_device(hidden);
  float* d_gain = on_device(gain);
  bf16* d_x = on_device(c.gated ? pairs : x);
  void* d_out = wide ? static_cast<void*>(on_device(before)) : on_device(before16);
  product p{.w = &w, .rows = c.rows};
  p.x = c.norm ? nullptr : d_x;
  p.gated = c.gated;
  p.x_stride = c.gated ? 2 * c.k : c.k;
  p.hidden = d_hidden;
  p.gain = d_gain;
  p.eps = 1e-5f;
  p.out = d_out;
  p.out_stride = out_n;
  p.output = c.output;
  must(engine.reserve(c.rows, w));
  must(engine.linear(p, on));
  must(check(cudaGetLastError(), "launch"));
  must(check(cudaStreamSynchronize(on), "product"));
  std::vector<float> out(before.size());
  if (wide) {
    must(check(cudaMemcpy(out.data(), d_out, out.size() * 4, cudaMemcpyDeviceToHost), "test copy"));
  } else {
    std::vector<bf16> out16(out.size());
    must(check(cudaMemcpy(out16.data(), d_out, out16.size() * 2, cudaMemcpyDeviceToHost), "test copy"));
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = __bfloat162float(out16[i]);
  }
  for (void* q : {static_cast<void*>(d_hidden), static_cast<void*>(d_gain), static_cast<void*>(d_x), d_out})
    cudaFree(q);

  double worst = 0.0;
  bool written = true;
  std::string unwritten;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (std::isfinite(out[i])) continue;
    if (written)
      unwritten = " (row " + std::to_string(i / out_n) + " column " + std::to_string(i % out_n) + " unwritten)";
    written = false;
  }
  const auto dot = [&](int row, int n, double rms) {
    double sum = 0.0;
    for (int i = 0; i < c.k; ++i) {
      const std::size_t at = static_cast<std::size_t>(row) * c.k + i;
      const auto pair = [&](int half) {
        return static_cast<double>(__bfloat162float(pairs[(2L * row + half) * c.k + i]));
      };
      const double xv = c.gated  ? pair(0) / (1.0 + std::exp(-pair(0))) * pair(1)
                        : c.norm ? hidden[at] * rms * gain[i]
                                 : static_cast<double>(__bfloat162float(x[at]));
      sum += xv * file.values[static_cast<std::size_t>(n) * c.k + i];
    }
    return sum;
  };
  double along = 0.0, squares = 0.0;
  for (int row = 0; row < c.rows; ++row) {
    double error = 0.0, norm = 0.0, rms = 0.0;
    for (int i = 0; i < c.k; ++i)
      rms += static_cast<double>(hidden[static_cast<std::size_t>(row) * c.k + i]) *
             hidden[static_cast<std::size_t>(row) * c.k + i];
    rms = 1.0 / std::sqrt(rms / c.k + 1e-5);
    for (int j = 0; j < (c.rows > 8 ? 30 : 96); ++j) {
      const int n = j < 10 ? j : j < 20 ? out_n - 1 - (j - 10) : static_cast<int>(random_bits() % out_n);
      if (n < 0 || n >= out_n) continue;
      double want = dot(row, n, rms);
      if (silu) want = want / (1.0 + std::exp(-want)) * dot(row, n + out_n, rms);
      if (c.output == product_output::add_f32) want += before[static_cast<std::size_t>(row) * out_n + n];
      const double got = out[static_cast<std::size_t>(row) * out_n + n];
      error += (got - want) * (got - want), norm += want * want;
      along += (got - want) * want, squares += want * want;
    }
    worst = std::max(worst, std::sqrt(error / norm));
  }
  // bf16 rounds x, packed weights and what silu magnifies; many rows of fp8 have x in 3 bits too: 0.026 a value.
  const bool many = c.rows > 2;
  if (c.drift > 0) worst = std::abs(along / squares);
  const double allowed = c.drift > 0                          ? c.drift
                         : c.type == weight_type::fp8 && many ? silu ? 0.18 : 0.12
                         : c.type == weight_type::q4_0        ? silu ? 0.12 : 5e-2  // x in bytes
                         : silu                               ? 2.5e-2
                         : many                               ? 1.5e-2
                                                              : 5e-3;
  const bool pass = written && worst < allowed;
  failures += !pass;
  std::printf("%s %-6s %-5s %6dx%-6d rows %3d output %d norm %d error %.2e of %.1e%s\n", pass ? "PASS" : "FAIL",
              std::string(troupe::memory::info(c.file).name).c_str(), name_of(c.type), c.n, c.k, c.rows,
              static_cast<int>(c.output), c.norm, worst, allowed, unwritten.c_str());
}

/// A row's bits alone and among others: within the few-rows kernel, and within the wgmma kernel.
void run_bits(weight_type type, const device_matrix& w, products& engine, cudaStream_t on) {
  const int k = static_cast<int>(w.cols), n = static_cast<int>(w.rows), most = small_product_rows(w);
  constexpr int most_rows = fused_rows;
  std::vector<float> hidden(1L * most_rows * k), gain(k, 1.0f);
  for (float& v : hidden) v = normal();
  std::vector<float> zeros(1L * most_rows * n);
  float* d_hidden = on_device(hidden);
  float* d_gain = on_device(gain);
  float* d_out = on_device(zeros);
  must(engine.reserve(most_rows, w));
  const auto run = [&](int first, int rows) {
    product p{.w = &w, .rows = rows};
    p.x_stride = k;
    p.hidden = d_hidden + static_cast<long>(first) * k;
    p.gain = d_gain;
    p.eps = 1e-5f;
    p.out = d_out;
    p.out_stride = n;
    p.output = product_output::f32;
    must(engine.linear(p, on));
    must(check(cudaStreamSynchronize(on), "product"));
    std::vector<float> out(static_cast<std::size_t>(rows) * n);
    must(check(cudaMemcpy(out.data(), d_out, out.size() * 4, cudaMemcpyDeviceToHost), "test copy"));
    return out;
  };
  const auto same = [&](const char* name, int rows, int part) {
    const auto whole = run(0, rows);
    bool equal = true;
    for (int first = 0; first + part <= rows; first += part)
      equal &= std::memcmp(run(first, part).data(), whole.data() + static_cast<long>(first) * n, 4L * part * n) == 0;
    failures += !equal;
    std::printf("%s %-5s %6dx%-6d rows %3d = %d at a time, bit for bit (%s)\n", equal ? "PASS" : "FAIL", name_of(type),
                n, k, rows, part, name);
  };
  same("few", std::min(most, 2), 1);
  if (type == weight_type::bf16 && w.bytes <= 16 << 20) {
    same("more", 16, 9), same("more", 32, 17), same("more", 64, 33), same("more", 128, 65);
    same("more", 192, 131), same("more", 256, 193);
  }
  if (type == weight_type::fp8) same("more", 64, 17), same("more", 16, 9), same("more", 9, 4);
  else if (type != weight_type::f16 && type != weight_type::bf16)
    same("more", 64, 16), same("more", 32, 9), same("more", 9, 4);
  for (void* q : {d_hidden, d_gain, d_out}) cudaFree(q);
}

/// The products of two layers as a chain, where a product writes its reader's x, against one by one: bit for bit.
void run_chain(weight_type type, products& engine, cudaStream_t on, int width, std::initializer_list<int> all_rows) {
  const int feed = width * 3 / 2 / 64 * 64, qkv_width = width + 320;
  const auto matrix = [&](int rows, int cols) {
    return random_matrix(type, rows, cols, random_bits(), on).value_or_throw();
  };
  const auto qkv = matrix(qkv_width, width), attended = matrix(width, width), gate_up = matrix(2 * feed, width),
             down = matrix(width, feed);
  for (const auto* w : {&qkv, &attended, &gate_up, &down}) must(engine.reserve(fused_rows, **w));
  std::vector<float> gains(2 * width), residual(1L * fused_rows * width);
  for (float& g : gains) g = 1.0f + 0.3f * normal();
  for (float& v : residual) v = normal() * 3.0f;
  std::vector<bf16> values(1L * fused_rows * width);
  for (bf16& v : values) v = __float2bfloat16(normal());
  float* gain = on_device(gains);
  bf16* x = on_device(values);
  for (int rows : all_rows) {
    const auto both = [&](bool chained) {
      float* hidden = on_device(residual);
      bf16* gated =
          on_device(std::vector<bf16>(static_cast<std::size_t>(rows) * feed, __float2bfloat16(std::nanf(""))));
      bf16* out =
          on_device(std::vector<bf16>(static_cast<std::size_t>(rows) * qkv_width, __float2bfloat16(std::nanf(""))));
      const product layer[] = {
          {attended.get(), rows, x, false, width, nullptr, nullptr, 1e-5f, hidden, width, product_output::add_f32},
          {gate_up.get(), rows, nullptr, false, width, hidden, gain, 1e-5f, gated, feed, product_output::silu_bf16},
          {down.get(), rows, gated, false, feed, nullptr, nullptr, 1e-5f, hidden, width, product_output::add_f32},
          {qkv.get(), rows, nullptr, false, width, hidden, gain + width, 1e-5f, out, qkv_width, product_output::bf16}};
      for (int layers = 0; layers < 2; ++layers)
        for (const product& p : layer) must(chained ? engine.chain(p, on) : engine.linear(p, on));
      must(engine.settle(on));
      must(check(cudaStreamSynchronize(on), "chain"));
      std::vector<bf16> got(static_cast<std::size_t>(rows) * qkv_width);
      std::vector<float> left(static_cast<std::size_t>(rows) * width);
      must(check(cudaMemcpy(got.data(), out, got.size() * 2, cudaMemcpyDeviceToHost), "test copy"));
      must(check(cudaMemcpy(left.data(), hidden, left.size() * 4, cudaMemcpyDeviceToHost), "test copy"));
      for (void* q : {static_cast<void*>(hidden), static_cast<void*>(gated), static_cast<void*>(out)}) cudaFree(q);
      for (bf16 v : got) left.push_back(__bfloat162float(v));
      return left;
    };
    const auto apart = both(false), chained = both(true);
    bool pass = std::memcmp(apart.data(), chained.data(), apart.size() * 4) == 0;
    for (float v : apart) pass &= std::isfinite(v);
    failures += !pass;
    std::printf("%s %-5s a chain of %d rows = its products one by one\n", pass ? "PASS" : "FAIL", name_of(type), rows);
  }
  for (void* q : {static_cast<void*>(gain), static_cast<void*>(x)}) cudaFree(q);
}

/// Every way that a product of many rows may be told to go, each against sums in double.
void run_ways(weight_type type, dtype file_type, products& engine, int n, int k, std::initializer_list<int> all_rows,
              cudaStream_t on) {
  auto file = random_file(file_type, n, k);
  const auto whole = file.view();
  auto w = pack_matrix({&whole, 1}, type, on).value_or_throw();
  if (type == weight_type::fp8) round_to_fp8(file);
  const auto inputs = type == weight_type::fp8   ? library_shape::element::fp8
                      : type == weight_type::f16 ? library_shape::element::f16
                                                 : library_shape::element::bf16;
  for (int rows : all_rows)
    for (library_way way = own_way; way < most_library_ways; ++way) {
      auto choices = std::make_shared<library_choices>();
      for (bool f32_out : {false, true})
        for (std::int64_t columns : {w->cols, w->k_padded})
          choices->choose({inputs, f32_out, n, static_cast<std::int32_t>(columns), library_range(rows)},
                          {usual_way, 1000}, {way, 1});
      engine.follow(choices);
      std::printf("way %d: ", way);
      run_case({type, file_type, n, k, rows, static_cast<product_output>(random_bits() % 4), way % 2 == 0}, file, *w,
               engine, on);
    }
  engine.follow(nullptr);
}

/// Each kernel of a type once or twice and none of the library's, for tools that slow all of it a thousandfold.
int run_quickly(const std::string& type_name) {
  auto stream = make_stream().value_or_throw();
  auto engine = products::make().value_or_throw(), one_order = products::make(true).value_or_throw();
  const struct {
    weight_type type;
    dtype file;
    int most;
  } types[] = {{weight_type::bf16, dtype::bf16, 64},
               {weight_type::fp8, dtype::bf16, 64},
               {weight_type::q8_0, dtype::q8_0, 129},
               {weight_type::q4_0, dtype::q4_0, 129}};
  for (auto [type, file_type, most] : types) {
    if (type_name != name_of(type)) continue;
    auto file = random_file(file_type, 192, 512);
    const auto whole = file.view();
    auto w = pack_matrix({&whole, 1}, type, stream.get()).value_or_throw();
    if (type == weight_type::fp8) round_to_fp8(file);
    for (int rows : {1, 3, 16, 17, 33, 129})
      run_case({type, file_type, 192, 512, rows, static_cast<product_output>(rows % 4), rows % 3 == 0}, file, *w,
               rows <= most ? *engine : *one_order, stream.get());
    if (most <= 64) run_chain(type, *engine, stream.get(), 256, {5});
  }
  std::printf("%d failures\n", failures);
  return failures != 0;
}

}  // namespace

int main(int argc, char** argv) {
  auto stream = make_stream().value_or_throw();
  auto engine = products::make().value_or_throw();
  const struct {
    weight_type type;
    dtype file;
  } types[] = {
      {weight_type::bf16, dtype::bf16},   {weight_type::bf16, dtype::f32},   {weight_type::f16, dtype::f16},
      {weight_type::fp8, dtype::bf16},    {weight_type::q8_0, dtype::q8_0},  {weight_type::q4_0, dtype::q4_0},
      {weight_type::q4_1, dtype::q4_1},   {weight_type::q4_1, dtype::q4_k},  {weight_type::q8_16, dtype::q6_k},
      {weight_type::q8_1, dtype::q5_k},   {weight_type::q8_1, dtype::q5_1},  {weight_type::q8_0, dtype::q5_0},
      {weight_type::q8_0, dtype::q3_k},   {weight_type::q8_0, dtype::q2_k},  {weight_type::q8_0, dtype::iq4_nl},
      {weight_type::q8_0, dtype::iq4_xs}, {weight_type::q8_0, dtype::mxfp4}, {weight_type::f16, dtype::q6_k},
      {weight_type::fp8, dtype::q4_k}};
  const struct {
    int n, k;
  } shapes[] = {{3072, 4096}, {1536, 14336}, {1024, 2048}, {6144, 1024}, {1024, 3072},
                {960, 576},   {176, 32},     {4096, 576},  {112, 1536}};
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const std::string only = argc > 1 ? argv[1] : "";
  if (argc > 2) return run_quickly(only);
  for (auto [type, file_type] : types) {
    if (!only.empty() && only != name_of(type)) continue;
    for (auto [n, k] : shapes) {
      if (k % troupe::memory::info(file_type).block != 0) continue;
      if (file_type > dtype::q8_0 && n * k > 8 << 20) continue;
      auto file = random_file(file_type, n, k);
      const int cut = n / 3 / 8 * 8;  // three parts, as Q|K|V are stacked
      auto whole = file.view();
      const tensor_view parts[] = {whole.slice_rows(0, cut), whole.slice_rows(cut, cut),
                                   whole.slice_rows(2 * cut, n - 2 * cut)};
      auto w = pack_matrix(parts, type, stream.get()).value_or_throw();
      if (type == weight_type::fp8) round_to_fp8(file);
      if (n <= 1536) run_bits(type, *w, *engine, stream.get());
      const bool unpacked = file_type > dtype::q8_0;  // into a form that others have been through already
      for (int rows : {1, 2, 3, 5, 8, 9, 17, 31, 33, 63, 65, 96, 100, 128, 129, 200, 256, 300}) {
        if (unpacked && rows != 3 && rows != 9 && rows != 65) continue;
        const auto output = static_cast<product_output>(random_bits() % 4);
        run_case({type, file_type, n, k, rows, output, rows % 2 == 1}, file, *w, *engine, stream.get());
        if (rows == 1)
          run_case({type, file_type, n, k, rows, product_output::silu_bf16, false}, file, *w, *engine, stream.get());
        if (engine->takes_gated(*w, rows))
          run_case({type, file_type, n, k, rows, product_output::add_f32, false, 0, true}, file, *w, *engine,
                   stream.get());
      }
    }
  }
  for (weight_type type : {weight_type::bf16, weight_type::f16, weight_type::fp8, weight_type::q8_0, weight_type::q4_0})
    run_chain(type, *engine, stream.get(), 1024, {1, 5, 16, 17, 31, 33, 63, 64, 65, 96, 100, 128, 200, 256});
  for (auto [type, file_type] :
       {std::pair{weight_type::bf16, dtype::bf16}, {weight_type::f16, dtype::f16}, {weight_type::fp8, dtype::bf16}})
    run_ways(type, file_type, *engine, 4608, 2048, {24, 64, 200, 1100}, stream.get());
  for (auto [type, file_type] : {std::pair{weight_type::q8_0, dtype::q8_0}, {weight_type::q4_1, dtype::q4_1}}) {
    auto file = random_file(file_type, 1024, 4096);
    raise_scales(file);
    const auto whole = file.view();
    auto w = pack_matrix({&whole, 1}, type, stream.get()).value_or_throw();
    for (int rows : {2, 9, 64, 130})
      run_case({type, file_type, 1024, 4096, rows, product_output::f32, false, 1e-3}, file, *w, *engine, stream.get());
  }
  {  // sums that stay in the unit lose their last places towards zero: not so many that outputs shrink
    auto file = random_file(dtype::bf16, 1024, 4096);
    const auto whole = file.view();
    auto w = pack_matrix({&whole, 1}, weight_type::fp8, stream.get()).value_or_throw();
    round_to_fp8(file);
    run_case({weight_type::fp8, dtype::bf16, 1024, 4096, 300, product_output::f32, false, 4e-3}, file, *w, *engine,
             stream.get());
  }
  std::printf("%d failures\n", failures);
  return failures != 0;
}
