// A device that hangs and one that breaks, seen through the lane. A plain program: the last case loses the device for
// this process, so they have one of their own.
#include <cstdio>

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "actors/lane/step_runner.hpp"
#include "actors/scheduler/step_watch.hpp"
#include "kernels/cuda/cuda_lane.hpp"
#include "kernels/cuda/device.hpp"
#include "tests/support/random_model.hpp"

using namespace troupe;
using namespace std::chrono_literals;

namespace {

int failures = 0;
void expect(bool what, const char* sentence) {
  std::printf("%s: %s\n", what ? "ok  " : "FAIL", sentence);
  failures += what ? 0 : 1;
}

/// Holds every multiprocessor for so many nanoseconds.
__global__ void spin(unsigned long long nanoseconds) {
  unsigned long long start = 0, now = 0;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
  do asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  while (now - start < nanoseconds);
}
__global__ void trap() { asm volatile("trap;"); }

actors::step_plan first_step(std::int32_t slot, std::int32_t block) {
  auto terms = std::make_shared<actors::sequence_terms>();
  terms->generation = static_cast<actors::generation_id>(slot) + 1;
  terms->how.temperature = 0;
  terms->max_tokens = 4;
  actors::step_plan plan;
  plan.step = static_cast<std::uint64_t>(slot) + 1;
  plan.joins = {{slot, terms, std::make_shared<const std::vector<std::int32_t>>(3, 7), 0}};
  plan.work = {{slot, 0, 3, true, {block}}};
  return plan;
}

}  // namespace

int main() {
  auto lane = kernels::cuda::make_cuda_lane();
  if (!lane) {
    std::printf("skipped, no CUDA device: %s\n", lane.why().text.c_str());
    return 77;
  }
  auto runner = actors::step_runner::create(test::small_model(**lane, 1, 512), **lane, {8, 64, 16}).value_or_throw();
  expect(runner->run(first_step(0, 0)).tokens.at(0).end == actors::sequence_end::none, "a step is computed");

  cudaStream_t other{};
  cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
  int blocks = 0;
  cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, spin, 1024, 0);
  cudaDeviceProp device{};
  cudaGetDeviceProperties(&device, 0);
  spin<<<blocks * device.multiProcessorCount, 1024, 0, other>>>(3'000'000'000ull);
  actors::step_watch watch(1s);
  const auto begun = runner->begin(first_step(1, 1));
  watch.planned(actors::lane_kind::decode, actors::clock::now());
  std::atomic<bool> over{false};
  std::thread waiting([&] {
    runner->wait(actors::lane_kind::decode, begun.ticket);
    over = true;
  });
  bool fired = false;
  while (!over) {
    std::this_thread::sleep_for(50ms);
    if (!over && watch.overdue(actors::clock::now())) fired = true;
  }
  waiting.join();
  expect(fired, "a step that a kernel holds up is overdue while its lane still waits");
  expect(!begun.result && runner->finish(actors::lane_kind::decode).tokens.at(0).end == actors::sequence_end::none,
         "and is right when it ends after all");

  trap<<<1, 1, 0, other>>>();
  cudaStreamSynchronize(other);
  const auto lost = runner->run(first_step(2, 2));
  expect(lost.lane_lost && lost.lane_lost->code == errc::internal, "a trap loses the lane");
  expect(lost.tokens.at(0).end == actors::sequence_end::failed, "and fails the sequence of the step");
  std::printf("      %s\n", lost.lane_lost ? lost.lane_lost->text.c_str() : "");
  const auto later = runner->run(first_step(3, 3));
  expect(later.lane_lost && later.tokens.at(0).end == actors::sequence_end::failed, "as it does every later one");
  std::fflush(stdout);
  _exit(failures == 0 ? 0 : 1);
}
