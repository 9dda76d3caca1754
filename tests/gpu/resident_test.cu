// The resident kernel against the kernels that it stands for and against sums in double, over whole stacks of layers:
// every weight type, batches and contexts at the edges, step after step on one workspace. `time` as the argument: what
// both take.
#include <cstdio>
#include <functional>
#include <string>

#include "tests/gpu/resident_stack.hpp"
#include "tests/support/random_seed.hpp"

namespace {

using namespace troupe::kernels::cuda;

int failures = 0;

const char* name_of(weight_type t) {
  switch (t) {
    case weight_type::bf16: return "bf16";
    case weight_type::fp8: return "fp8";
    case weight_type::q8_0: return "q8_0";
    default: return "q4_0";
  }
}

template <class T>
double distance(const std::vector<float>& a, const std::vector<T>& b) {
  double off = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i])) return 1e9;
    off += (double{a[i]} - double{b[i]}) * (double{a[i]} - double{b[i]});
    norm += double{b[i]} * double{b[i]};
  }
  return std::sqrt(off / norm);
}

void compare(const stack_shape& m, weight_type type, const std::vector<sequence_shape>& sequences, unsigned seed,
             cudaStream_t on) {
  layer_stack s(m, type, sequences, seed, contents::poisoned_around, on);
  if (!s.serves()) {
    ++failures;
    std::printf("FAIL  %s %s rows %d: not served\n", m.name, name_of(type), s.rows());
    return;
  }
  double worst = 0, moved = 1e9, arenas = 0;
  for (int step = 0; step < 3; ++step) {
    const std::vector<float> x = s.random_input();
    s.restore();
    s.set(x);
    s.run_separately();
    const auto expected = s.result();
    const auto arena = s.world().arena();
    s.restore();
    s.set(x);
    s.run_resident_kernel();
    const auto got = s.result();
    worst = std::max(worst, distance(got, expected));
    moved = std::min(moved, distance(x, expected));
    std::vector<float> a, b;
    const auto other = s.world().arena();
    for (std::size_t i = 0; i < arena.size(); i += 2) {
      const float p = __bfloat162float(reinterpret_cast<const bf16&>(arena[i])),
                  q = __bfloat162float(reinterpret_cast<const bf16&>(other[i]));
      if (std::isnan(p) && std::isnan(q)) continue;
      a.push_back(q), b.push_back(p);
    }
    arenas = std::max(arenas, distance(a, b));
  }
  // Whatever its neighbours are, a row's bits stay the same.
  std::vector<float> x = s.random_input();
  const auto run = [&] {
    s.restore();
    s.set(x);
    s.run_resident_kernel();
    return s.result();
  };
  const auto first = run();
  const auto others = s.random_input();
  const auto width = static_cast<std::size_t>(s.width());
  std::copy(others.begin() + static_cast<std::ptrdiff_t>(width), others.end(),
            x.begin() + static_cast<std::ptrdiff_t>(width));
  const auto second = run();
  const bool same = std::memcmp(first.data(), second.data(), width * sizeof(float)) == 0;
  // The orders of sums differ, and each rounding to bf16 (or to a byte, of x for four bits) may fall to the other side.
  const double allowed = type == weight_type::q4_0 ? 3e-2 : type == weight_type::fp8 && s.rows() > 2 ? 8e-2 : 1e-2;
  const bool pass = worst < allowed && arenas < allowed && moved > 0.2 && same;
  failures += !pass;
  std::printf("%s  %s %s rows %d: off by %.2e (K and V %.2e, allowed %.0e), moved %.2f%s\n", pass ? "PASS" : "FAIL",
              m.name, name_of(type), s.rows(), worst, arenas, allowed, moved,
              same ? "" : ", row 0 depends on its neighbours");
  std::fflush(stdout);
}

/// One step against sums in double over the same weights.
void compare_in_double(const stack_shape& m, weight_type type, const std::vector<sequence_shape>& sequences,
                       unsigned seed, cudaStream_t on) {
  layer_stack s(m, type, sequences, seed, contents::poisoned_around, on);
  const std::vector<float> x = s.random_input();
  s.restore();
  s.set(x);
  s.run_resident_kernel();
  const auto got = s.result();
  const double off = distance(got, s.in_double(x));
  const double allowed = type == weight_type::q4_0 ? 3e-2 : 1e-2;  // x in bytes; else bf16 between ops
  const bool pass = off < allowed;
  failures += !pass;
  std::printf("%s  %s %s rows %d in double: off by %.2e of %.0e\n", pass ? "PASS" : "FAIL", m.name, name_of(type),
              s.rows(), off, allowed);
  std::fflush(stdout);
}

/// Steps around the one after which tags begin anew; before it, all words are as the first step after it would write
/// them.
void begin_tags_anew(const stack_shape& m, const std::vector<sequence_shape>& sequences, unsigned seed,
                     cudaStream_t on) {
  layer_stack s(m, weight_type::bf16, sequences, seed, contents::poisoned_around, on);
  const std::vector<float> x = s.random_input();
  s.restore();
  s.set(x);
  s.run_separately();
  const auto expected = s.result();
  s.age(resident_turns - 2, 1ull << 32 | 0x40400000u);
  double worst = 0;
  bool counted = true;
  for (const std::uint32_t done : {resident_turns - 1, 0u, 1u, 2u}) {
    s.restore();
    s.set(x);
    s.run_resident_kernel();
    worst = std::max(worst, distance(s.result(), expected));
    counted &= s.turns() == done && (done != 0 || s.clear());
    if (done == resident_turns - 1) s.age(done, 1ull << 32 | 0x40400000u);
  }
  const bool pass = worst < 1e-2 && counted;
  failures += !pass;
  std::printf("%s  tags that begin anew, rows %d: off by %.2e%s\n", pass ? "PASS" : "FAIL", s.rows(), worst,
              counted ? "" : ", turns are not counted or words not cleared");
  std::fflush(stdout);
}

double microseconds(cudaStream_t on, const std::function<void()>& record) {
  cudaGraph_t g = nullptr;
  cudaGraphExec_t exec = nullptr;
  must(cudaStreamBeginCapture(on, cudaStreamCaptureModeThreadLocal), "capture");
  record();
  must(cudaStreamEndCapture(on, &g), "end of capture");
  must(cudaGetLastError(), "launches");
  must(cudaGraphInstantiate(&exec, g, 0), "instantiating");
  cudaEvent_t begin, end;
  must(cudaEventCreate(&begin), "event");
  must(cudaEventCreate(&end), "event");
  std::vector<float> times;
  for (int i = 0; i < 23; ++i) {
    must(cudaEventRecord(begin, on), "event");
    must(cudaGraphLaunch(exec, on), "graph");
    must(cudaEventRecord(end, on), "event");
    must(cudaStreamSynchronize(on), "replay");
    float ms = 0;
    must(cudaEventElapsedTime(&ms, begin, end), "time");
    times.push_back(ms * 1000);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

void time_both(const stack_shape& m, weight_type type, const std::vector<sequence_shape>& sequences, cudaStream_t on) {
  layer_stack s(m, type, sequences, 7, contents::random_on_device, on);
  const auto x = s.random_input();
  s.set(x);
  const double apart = microseconds(on, [&] { s.run_separately(); });
  const bool served = s.serves();
  s.set(x);
  const double resident = served ? microseconds(on, [&] { s.run_resident_kernel(); }) : 0;
  std::printf(
      "%-10s %-5s rows %d context %5d: separate %8.1f us (%.2f TB/s), resident %8.1f us (%.2f TB/s), a layer %.2f -> "
      "%.2f us\n",
      m.name, name_of(type), s.rows(), sequences[0].past + 1, apart, s.bytes() / apart / 1e6, resident,
      served ? s.bytes() / resident / 1e6 : 0.0, apart / m.layers, resident / m.layers);
  std::fflush(stdout);
}

constexpr stack_shape qwen{"qwen-0.6b", 28, 1024, 3072, {16, 8, 128, true, 128}};
constexpr stack_shape llama{"llama-8b", 32, 4096, 14336, {32, 8, 128, true, 128}};
stack_shape of_layers(stack_shape m, int layers) {
  m.layers = layers;
  return m;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  cudaStream_t on;
  must(cudaStreamCreate(&on), "stream");
  if (what == "time") {
    const std::string only = argc > 2 ? argv[2] : "";
    for (const weight_type type : {weight_type::bf16, weight_type::fp8, weight_type::q8_0, weight_type::q4_0}) {
      if (!only.empty() && only != name_of(type)) continue;
      for (const int past : {64, 1000}) time_both(qwen, type, {{past, 1}}, on);
      for (const int past : {64, 1000}) time_both(llama, type, {{past, 1}}, on);
      for (const int rows : {2, 4}) {
        time_both(qwen, type, std::vector<sequence_shape>(static_cast<std::size_t>(rows), {64, 1}), on);
        time_both(llama, type, std::vector<sequence_shape>(static_cast<std::size_t>(rows), {64, 1}), on);
      }
    }
    return 0;
  }
  const bool quick = argc > 2;  // a layer of one type, for tools that slow it a thousandfold
  unsigned seed = argc > 1 && !quick ? static_cast<unsigned>(std::atoi(argv[1])) : troupe::test::random_seed();
  std::printf("seed %u\n", seed);
  const stack_shape narrow{"narrow", 3, 512, 640, {4, 2, 128, true, 128}},
      grouped{"grouped", 2, 1152, 3008, {18, 2, 128, false, 128}};
  for (const weight_type type : {weight_type::bf16, weight_type::fp8, weight_type::q8_0, weight_type::q4_0}) {
    // A byte of x that falls to the other side is worth much more than a bf16 that does, and layers of noise enlarge it
    // without a bound: with four bits one layer is compared at a time.
    if (quick) {
      if (what != name_of(type)) continue;
      compare(of_layers(narrow, 1), type, {{127, 1}, {128, 1}}, seed++, on);
      continue;
    }
    const auto deep = [&](const stack_shape& m, int layers) {
      return of_layers(m, type == weight_type::q4_0 ? 1 : layers);
    };
    compare(deep(qwen, 4), type, {{64, 1}}, seed++, on);
    compare(deep(narrow, 3), type, {{0, 1}}, seed++, on);
    compare(deep(narrow, 3), type, {{127, 1}, {128, 1}}, seed++, on);
    compare(deep(grouped, 2), type, {{2047, 1}, {15, 1}, {16, 1}, {700, 1}}, seed++, on);
    compare(deep(qwen, 2), type, {{1, 1}, {1029, 1}, {300, 1}}, seed++, on);
    compare_in_double(deep(narrow, 3), type, {{700, 1}, {40, 1}}, seed++, on);
    compare_in_double(deep(grouped, 2), type, {{129, 1}}, seed++, on);
    if (type != weight_type::q4_0) compare(of_layers(llama, 2), type, {{576, 1}}, seed++, on);
  }
  if (!quick) begin_tags_anew(narrow, {{40, 1}, {700, 1}}, seed++, on);
  std::printf("%d failed\n", failures);
  return failures ? 1 : 0;
}
