// Attention on the device: times of its kernels over KV that no cache holds, beside what reading memory takes in the
// same run. Prints microseconds a layer, GB/s and the share of the read limit. Argument: what the names of the cases to
// run contain; none: all.
#include "bench/cuda_graph_time.hpp"
#include "kernels/cuda/attention_prefill.hpp"
#include "tests/gpu/attention_world.hpp"

using namespace troupe::kernels::cuda;

namespace {

__global__ void read_all(const uint4* from, std::size_t size, unsigned* to) {
  unsigned any = 0;
  const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
  std::size_t i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x;
  for (; i + 7 * step < size; i += 8 * step) {
    uint4 v[8];
#pragma unroll
    for (int k = 0; k < 8; ++k) v[k] = __ldcs(from + i + k * step);
#pragma unroll
    for (int k = 0; k < 8; ++k) any |= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
  }
  if (any == 0x12345678u) *to = any;
}

double read_limit() {
  const std::size_t bytes = std::size_t{4} << 30;
  device_array<bf16> data(bytes / 2);
  device_array<unsigned> sink(1);
  fill_random<<<1024, 256>>>(data.data(), data.size(), 7);
  double best = 0;
  for (int blocks : {132 * 4, 132 * 8, 132 * 16}) {
    const double ms = replay([&](cudaStream_t on) {
      read_all<<<static_cast<unsigned>(blocks), 256, 0, on>>>(reinterpret_cast<const uint4*>(data.data()), bytes / 16,
                                                              sink.data());
    });
    best = std::max(best, static_cast<double>(bytes) / ms * 1e-6);
  }
  return best;
}

/// What stands before attention in a step: a product that reads its weights, then lets go.
__global__ void __launch_bounds__(256) read_weights(const uint4* from, std::size_t size, unsigned* to) {
  let_successor_start();
  wait_for_predecessor();
  unsigned any = 0;
  for (std::size_t i = blockIdx.x * 256 + threadIdx.x; i < size; i += gridDim.x * 256) {
    const uint4 v = __ldcs(from + i);
    any |= v.x ^ v.y ^ v.z ^ v.w;
  }
  if (any == 0x12345678u) *to = any;
}
constexpr std::size_t weight_bytes = std::size_t{8} << 20;

constexpr head_shape llama_8b{32, 8, 128, true, 128}, qwen_600m{16, 8, 128, false, 128}, smollm{9, 3, 64, true, 64};

const char* wanted = "";  // set once by main

double decode_case(const char* name, const head_shape& shape, std::vector<sequence_shape> sequences, double limit,
                   kv_format format = kv_format::bf16) {
  if (!std::strstr(name, wanted)) return 0;
  double tokens = 0;
  for (const sequence_shape& s : sequences) tokens += s.past + 1;
  const double bytes =
      tokens * shape.kv_heads * kv_layout::tile_bytes_of(shape.head_dim, format) / kv_layout::block_tokens * 2;
  const int layers = std::clamp(static_cast<int>(1.5e9 / bytes), 4, 64);
  attention_world world(shape, std::move(sequences), 3, layers, contents::random_on_device, format);
  const auto attend = [&](cudaStream_t on, bool fused) {
    world.plan(on);
    for (int layer = 0; layer < layers; ++layer) {
      if (!fused) rope_store(world.rope_call(layer), on);
      attend_decode(world.call(layer, fused), on);
    }
  };
  static const device_array<unsigned> weights(64 * weight_bytes / 4);
  static device_array<unsigned> sink(1);
  const auto product = [&](cudaStream_t on, int layer) {
    launch(read_weights, dim3(264), dim3(256), 0, on,
           reinterpret_cast<const uint4*>(weights.data()) + layer * (weight_bytes / 16), weight_bytes / 16,
           sink.data());
  };
  const double products = replay([&](cudaStream_t on) {
    world.plan(on);
    for (int layer = 0; layer < layers; ++layer) product(on, layer);
  });
  const double chained = (replay([&](cudaStream_t on) {
                            world.plan(on);
                            for (int layer = 0; layer < layers; ++layer) {
                              product(on, layer);
                              attend_decode(world.call(layer, true), on);
                            }
                          }) -
                          products) /
                         layers;
  const double plan = replay([&](cudaStream_t on) { world.plan(on); });
  const double fused = (replay([&](cudaStream_t on) { attend(on, true); }) - plan) / layers;
  const double apart = (replay([&](cudaStream_t on) { attend(on, false); }) - plan) / layers;
  const double rate = bytes / fused * 1e-6;
  std::printf(
      "%-44s %8.2f us  %6.0f GB/s  %4.2f of reading   (behind products %8.2f us, %4.2f; rope apart %8.2f us; plan "
      "%5.2f us)\n",
      name, fused * 1e3, rate, rate / limit, chained * 1e3, bytes / chained * 1e-6 / limit, apart * 1e3, plan * 1e3);
  std::fflush(stdout);
  return rate;
}

/// Sequences that share their first tokens, read once for all, against the same where each reads for itself (from the
/// cache, where that holds them).
void shared_case(const char* name, const head_shape& shape, int sequences, int shared, int own, double limit) {
  if (!std::strstr(name, wanted)) return;
  std::vector<sequence_shape> all(static_cast<std::size_t>(sequences), {shared + own - 1, 1, 0, shared / 16});
  all[0] = {shared + own - 1, 1};
  const double token = shape.kv_heads * shape.head_dim * 4.0,
               bytes = (shared + static_cast<double>(sequences) * own) * token;
  const int layers = std::clamp(static_cast<int>(1.5e9 / bytes), 4, 64);
  attention_world world(shape, all, 3, layers, contents::random_on_device);
  const auto microseconds = [&] {
    const double plan = replay([&](cudaStream_t on) { world.plan(on); });
    return 1e3 *
           (replay([&](cudaStream_t on) {
              world.plan(on);
              for (int layer = 0; layer < layers; ++layer) attend_decode(world.call(layer, true), on);
            }) -
            plan) /
           layers;
  };
  const double apart = microseconds();
  std::printf("%-44s apart %8.2f us; once", name, apart);
  for (const int works : {66, 132, 264, 512}) {
    if (!world.share(works)) {
      std::printf(" not at all");
      break;
    }
    const double once = microseconds();
    std::printf(" %d works %7.2f us (%4.2f, %4.0f GB/s, %4.2f of reading)", works, once, apart / once,
                bytes / once * 1e-3, bytes / once * 1e-3 / limit);
  }
  std::printf("\n");
  std::fflush(stdout);
}

/// Causal work only: 4 * head_dim operations a head, row and key that the row sees.
void prefill_case(const char* name, const head_shape& shape, std::vector<sequence_shape> sequences) {
  if (!std::strstr(name, wanted)) return;
  double pairs = 0;
  for (const sequence_shape& s : sequences) pairs += static_cast<double>(s.rows) * s.past + s.rows * (s.rows + 1.0) / 2;
  const double work = pairs * shape.heads * shape.head_dim * 4;
  const int layers = 4;
  attention_world world(shape, std::move(sequences), 3, layers, contents::random_on_device);
  const double plan = replay([&](cudaStream_t on) { world.plan(on); });
  const double rope = (replay([&](cudaStream_t on) {
                         world.plan(on);
                         for (int layer = 0; layer < layers; ++layer) rope_store(world.rope_call(layer), on);
                       }) -
                       plan) /
                      layers;
  const double attend = (replay([&](cudaStream_t on) {
                           world.plan(on);
                           for (int layer = 0; layer < layers; ++layer) attend_prefill(world.call(layer, false), on);
                         }) -
                         plan) /
                        layers;
  const double by_warps = (replay([&](cudaStream_t on) {
                             world.plan(on);
                             for (int layer = 0; layer < layers; ++layer)
                               attend_prefill_by_warps(world.call(layer, false), on);
                           }) -
                           plan) /
                          layers;
  std::printf("%-44s %8.2f us  %6.1f TFLOP/s   (by warps %6.1f; rope %7.2f us; plan %6.2f us)\n", name, attend * 1e3,
              work / attend * 1e-9, work / by_warps * 1e-9, rope * 1e3, plan * 1e3);
  std::fflush(stdout);
}

std::vector<sequence_shape> equal(int sequences, int context) {
  return std::vector<sequence_shape>(static_cast<std::size_t>(sequences), {context - 1, 1});
}

}  // namespace

int main(int count, char** words) {
  if (count > 1) wanted = words[1];
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const double limit = *wanted ? 4550 : read_limit();
  std::printf("reading: %.0f GB/s\n", limit);
  decode_case("8B heads, 1 x 576", llama_8b, equal(1, 576), limit);
  decode_case("8B heads, 1 x 2,048", llama_8b, equal(1, 2048), limit);
  decode_case("8B heads, 1 x 8,192", llama_8b, equal(1, 8192), limit);
  decode_case("8B heads, 1 x 65,536", llama_8b, equal(1, 65536), limit);
  decode_case("8B heads, 8 x 576", llama_8b, equal(8, 576), limit);
  for (const int sequences : {8, 16, 24, 32, 40, 48, 64, 128})
    decode_case(("8B heads, " + std::to_string(sequences) + " x 545").c_str(), llama_8b, equal(sequences, 545), limit);
  std::vector<sequence_shape> ragged;
  for (int s = 0; s < 256; ++s) ragged.push_back({100 + s * 701 % 1024, 1});
  for (const int sequences : {32, 48, 64, 256})
    decode_case(("8B heads, " + std::to_string(sequences) + " ragged").c_str(), llama_8b,
                {ragged.begin(), ragged.begin() + sequences}, limit);
  decode_case("8B heads, 64 x 1,024", llama_8b, equal(64, 1024), limit);
  decode_case("8B heads, 256 x 1,024", llama_8b, equal(256, 1024), limit);
  const double uniform = decode_case("8B heads, 16 x 7,936", llama_8b, equal(16, 7936), limit);
  std::vector<sequence_shape> mixed = equal(15, 4096);
  mixed.insert(mixed.begin() + 4, {65535, 1});
  const double one_long = decode_case("8B heads, 1 x 65,536 + 15 x 4,096", llama_8b, mixed, limit);
  std::printf("mixed / uniform: %.2f\n", one_long / uniform);
  for (const auto& [name, format] :
       {std::pair{"8B heads, fp8, ", kv_format::fp8}, {"8B heads, q8_0, ", kv_format::q8_0}}) {
    const auto narrow = [&](const char* what, std::vector<sequence_shape> sequences) {
      return decode_case((std::string(name) + what).c_str(), llama_8b, std::move(sequences), limit, format);
    };
    narrow("1 x 8,192", equal(1, 8192));
    narrow("1 x 1,024", equal(1, 1024));
    narrow("8 x 1,024", equal(8, 1024));
    narrow("64 x 1,024", equal(64, 1024));
    narrow("256 x 1,024", equal(256, 1024));
    const double same = narrow("16 x 7,936", equal(16, 7936));
    std::printf("mixed / uniform: %.2f\n", narrow("1 x 65,536 + 15 x 4,096", mixed) / same);
  }
  decode_case("0.6B heads, 1 x 576", qwen_600m, equal(1, 576), limit);
  decode_case("0.6B heads, 64 x 576", qwen_600m, equal(64, 576), limit);
  decode_case("0.6B heads, 256 x 600", qwen_600m, equal(256, 600), limit);
  decode_case("SmolLM heads, 1 x 576", smollm, equal(1, 576), limit);
  decode_case("SmolLM heads, 64 x 576", smollm, equal(64, 576), limit);
  shared_case("8B heads, shared 64 x (1,024 + 128)", llama_8b, 64, 1024, 128, limit);
  shared_case("8B heads, shared 64 x (4,096 + 128)", llama_8b, 64, 4096, 128, limit);
  shared_case("8B heads, shared 256 x (1,024 + 128)", llama_8b, 256, 1024, 128, limit);
  shared_case("8B heads, shared 64 x (256 + 128)", llama_8b, 64, 256, 128, limit);
  shared_case("8B heads, shared 16 x (1,024 + 128)", llama_8b, 16, 1024, 128, limit);
  shared_case("8B heads, shared 8 x (1,024 + 128)", llama_8b, 8, 1024, 128, limit);
  shared_case("8B heads, shared 8 x (4,096 + 128)", llama_8b, 8, 4096, 128, limit);
  shared_case("8B heads, shared 2 x (8,192 + 128)", llama_8b, 2, 8192, 128, limit);
  shared_case("0.6B heads, shared 64 x (1,024 + 128)", qwen_600m, 64, 1024, 128, limit);
  prefill_case("8B heads, prefill 1 x 2,048", llama_8b, {{0, 2048}});
  prefill_case("8B heads, prefill 8 x 2,048", llama_8b, std::vector<sequence_shape>(8, {0, 2048}));
  prefill_case("8B heads, prefill 1 x 16,384", llama_8b, {{0, 16384}});
  prefill_case("8B heads, 512 rows behind 8,192", llama_8b, {{8192, 512}});
  prefill_case("8B heads, prefill 64 x 128", llama_8b, std::vector<sequence_shape>(64, {0, 128}));
  prefill_case("0.6B heads, prefill 8 x 2,048", qwen_600m, std::vector<sequence_shape>(8, {0, 2048}));
  prefill_case("SmolLM heads, prefill 8 x 2,048", smollm, std::vector<sequence_shape>(8, {0, 2048}));
}
