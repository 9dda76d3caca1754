// Sampling on the device: microseconds for a step's rows, launch by launch in one graph over fresh logits. Arguments:
// none.
#include <cmath>
#include <cstdio>
#include <random>

#include "bench/cuda_graph_time.hpp"
#include "kernels/cuda/sampling.hpp"

using namespace troupe::kernels::cuda;

namespace {

void time_case(const char* name, int rows, int vocab, const sample_parameters& how, float width) {
  constexpr int copies = 4;  // more than the L2 holds at 64 rows
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, width);
  std::vector<float> noise(static_cast<std::size_t>(vocab) * 3 + 17);
  for (float& x : noise) x = normal(random);
  std::vector<float> host(static_cast<std::size_t>(copies) * static_cast<std::size_t>(rows) *
                          static_cast<std::size_t>(vocab));
  for (std::size_t i = 0; i < host.size(); ++i) host[i] = noise[i % noise.size()];
  const device_array<float> logits(host);
  std::vector<sample_parameters> parameters(static_cast<std::size_t>(rows), how);
  for (sample_parameters& p : parameters) p.seed = random();
  const device_array<sample_parameters> device_parameters(parameters);
  std::vector<int> ints{0, 0, rows};
  for (int r = 0; r < rows; ++r) ints.push_back(r);
  const device_array<int> table(ints);
  const device_array<int> last(static_cast<std::size_t>(rows));
  const device_array<sample_pick> picks(static_cast<std::size_t>(rows));
  step_tables tables;
  tables.samples = rows;
  tables.counts = table.data();
  tables.sample_slots = table.data() + 3;
  tables.last_ids = last.data();
  sample_call call;
  call.tables = &tables;
  call.stride = vocab;
  call.vocab = vocab;
  call.parameters = device_parameters.data();
  call.picks = picks.data();
  const double ms = replay([&](cudaStream_t on) {
                      for (int i = 0; i < 8; ++i) {
                        call.logits = logits.data() + static_cast<std::size_t>(i % copies) *
                                                          static_cast<std::size_t>(rows) *
                                                          static_cast<std::size_t>(vocab);
                        sample(call, on);
                      }
                    }) /
                    8;
  std::printf("%-32s %3d rows x %6d: %7.2f us  %5.0f GB/s\n", name, rows, vocab, ms * 1e3,
              static_cast<double>(rows) * vocab * 4 / ms * 1e-6);
  std::fflush(stdout);
}

}  // namespace

int main() {
  sample_parameters greedy, whole, top_k, nucleus, both, floor, logprobs;
  whole.temperature = top_k.temperature = nucleus.temperature = both.temperature = floor.temperature =
      logprobs.temperature = 0.8f;
  top_k.top_k = both.top_k = 50;
  nucleus.top_p = both.top_p = logprobs.top_p = 0.95f;
  floor.min_p = 0.05f;
  logprobs.top_logprobs = 20;
  for (int rows : {1, 8, 64, 256}) {
    time_case("greedy", rows, 151936, greedy, 3);
    time_case("temperature", rows, 151936, whole, 3);
    time_case("top_k 50", rows, 151936, top_k, 3);
    time_case("top_p 0.95", rows, 151936, nucleus, 3);
    time_case("top_k 50, top_p 0.95", rows, 151936, both, 3);
    time_case("min_p 0.05", rows, 151936, floor, 3);
    time_case("top_p 0.95, 20 log-probabilities", rows, 151936, logprobs, 3);
  }
  time_case("top_p 0.95, nearly flat", 64, 151936, nucleus, 0.05f);
  time_case("greedy", 64, 49152, greedy, 3);
  time_case("top_p 0.95", 64, 49152, nucleus, 3);
}
