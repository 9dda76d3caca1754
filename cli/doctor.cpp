// `troupe doctor`: what this machine has, what Troupe makes of it, and what to do where that is less than it could be.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "base/machine.hpp"
#include "base/topology.hpp"
#include "cli/doctor_products.hpp"
#include "cli/engine.hpp"
#include "cli/options.hpp"
#include "cli/report.hpp"
#include "kernels/cpu/isa.hpp"
#include "kernels/cpu/lane_choice.hpp"
#include "kernels/cpu/machine_limits.hpp"
#include "kernels/cuda/cuda_lane.hpp"
#include "memory/copy_folder.hpp"
#include "models/catalogue/model_cache.hpp"

namespace troupe::cli {
namespace {

constexpr double gib = 1024.0 * 1024.0 * 1024.0;

void line(const char* what, const std::string& value) { std::printf("  %-12s %s\n", what, value.c_str()); }

template <class... Args>
std::string text(const char* format, Args... args) {
  char buffer[256];
  std::snprintf(buffer, sizeof buffer, format, args...);
  return buffer;
}

std::string joined(const std::vector<std::string>& words) {
  std::string all;
  for (const auto& word : words) all += (all.empty() ? "" : " ") + word;
  return all.empty() ? "none" : all;
}

void show_cores(const base::machine& m) {
  const base::topology cores = base::read_topology();
  const auto slow = std::count_if(cores.cores.begin(), cores.cores.end(),
                                  [&](const base::core& one) { return one.speed < cores.cores.front().speed; });
  std::string text_of = text("%zu physical", cores.cores.size());
  if (slow > 0) text_of += text(" (%zd of them efficiency cores)", slow);
  text_of += text(", %d of %d processors allowed", m.cpu.allowed, m.cpu.online);
  text_of += m.cpu.quota > 0 ? text(", cgroup grants %.1f", m.cpu.quota) : ", no cgroup quota";
  line("cores", text_of);
  line("NUMA nodes", std::to_string(cores.nodes()));
  line("threads", text("%d compute by default", kernels::default_threads()));
}

const char* words_for(base::huge_pages pages) {
  switch (pages) {
    case base::huge_pages::always: return "always";
    case base::huge_pages::on_request: return "on request, as weights do";
    case base::huge_pages::never: return "never";
    case base::huge_pages::unknown: break;
  }
  return "unknown";
}

void show_processor(const base::machine& m, std::vector<std::string>& advice) {
  line("processor", m.cpu_name.empty() ? "unknown" : m.cpu_name);
  line("features", joined(m.cpu_features));
  std::vector<std::string> paths;
  for (const auto isa : kernels::available_isas()) paths.emplace_back(to_string(isa));
  line("kernels", joined(paths) + " (the last is used)");
  show_cores(m);
  if (kernels::best_isa() == kernels::isa::scalar)
    advice.emplace_back(
        "This processor has no AVX2: the plain scalar kernels are slow. Any x86-64 machine since 2013 does better.");
  if (m.cpu.usable < m.cpu.allowed)
    advice.emplace_back(text("A cgroup holds this process to %.1f of %d cores; raise its CPU quota for more speed.",
                             m.cpu.quota, m.cpu.allowed));
}

void show_memory(const base::machine& m, std::vector<std::string>& advice) {
  std::string memory = text("%.1f GiB, %.1f GiB free", static_cast<double>(m.memory.total) / gib,
                            static_cast<double>(m.memory.available) / gib);
  if (m.memory.cgroup_limit > 0)
    memory += text(", cgroup limit %.1f GiB", static_cast<double>(m.memory.cgroup_limit) / gib);
  line("memory", memory);
  line("caches", text("L1 %.0f KiB and L2 %.1f MiB a core, L3 %.0f MiB", static_cast<double>(m.cache.l1_data) / 1024,
                      static_cast<double>(m.cache.l2) / (1 << 20), static_cast<double>(m.cache.l3) / (1 << 20)));
  line("huge pages", words_for(m.pages));
  if (m.pages == base::huge_pages::never)
    advice.emplace_back(
        "Huge pages are off: models load and run slower. "
        "As root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
  if (m.memory.available < 1ull << 30)
    advice.emplace_back("Under 1 GiB of memory is free: only the smallest models will load.");
}

/// Of the whole team.
kernels::machine_limits show_limits() {
  kernels::machine_limits last;
  std::vector<int> teams{1};
  if (const int all = kernels::default_threads(); all > 1) teams.push_back(all);
  for (const int threads : teams) {
    kernels::thread_team team(threads);
    const auto limits = kernels::measure_limits(team, kernels::best_isa());
    if (!limits) {
      line("limits", limits.why().text);
      return last;
    }
    last = *limits;
    line(threads == 1 ? "1 thread" : text("%d threads", threads).c_str(),
         text("reads %.1f GB/s, computes %.2f int8 and %.2f float TOP/s", limits->read_bytes_per_second / 1e9,
              limits->int8_ops_per_second / 1e12, limits->float_ops_per_second / 1e12));
  }
  return last;
}

void show_accelerator(std::vector<std::string>& advice) {
  const auto found = kernels::cuda::find_device();
  if (found) {
    line("GPU", text("%s, sm_%d, %d multiprocessors, %.1f of %.1f GiB free", found->name.c_str(), found->architecture,
                     found->multiprocessors, static_cast<double>(found->free_bytes) / gib,
                     static_cast<double>(found->memory_bytes) / gib));
    line("CUDA", "the driver runs up to " + found->driver + ", this build is of " + found->runtime);
    return;
  }
  const bool device = std::filesystem::exists("/dev/nvidiactl");
  line("GPU", device ? "present, not used: " + found.why().text : "none found; Troupe computes on the CPU");
  if (device && !kernels::cuda::built_with_cuda())
    advice.emplace_back("A GPU is here, but this build has no CUDA lane. Install the CUDA Toolkit and build again.");
}

/// What the GPU reaches, when there is one.
void show_gpu_limits() {
  if (!kernels::cuda::find_device()) return;
  auto lane = kernels::cuda::make_cuda_lane({.copies = copies_of({})});
  const auto limits = lane ? (*lane)->measure_limits() : result<kernels::cuda::device_limits>(lane.why());
  line("GPU", limits ? text("reads %.2f TB/s, multiplies %.0f bf16 TFLOP/s", limits->read_bytes_per_second / 1e12,
                            limits->bf16_flops_per_second / 1e12)
                     : limits.why().text);
  if (!lane) return;
  const auto tuned = (*lane)->tuned();
  line("products",
       tuned.shapes == 0
           ? "of many rows go the library's first way: troupe bench --device cuda --tune -m MODEL finds faster ones"
           : text("%zu of many rows were timed on this GPU, %zu go another way than the library's first: %s",
                  tuned.shapes, tuned.unusual, tuned.kept_in.c_str()));
}

void show_models(std::vector<std::string>& advice) {
  const auto cached = models::model_cache().list();
  for (const auto& model : cached)
    line("model", text("%s (%.0f MB)", model.name.c_str(), static_cast<double>(model.bytes) / 1e6));
  const memory::copy_folder copies{models::model_cache().copies().string()};
  const auto kept = copies.list();
  double bytes = 0;
  for (const auto& one : kept) bytes += static_cast<double>(one.bytes);
  if (!kept.empty())
    line("kept", text("%zu copies of weights, tokenizers and measurements, %.0f MB in %s: they make starts faster, and "
                      "may be deleted",
                      kept.size(), bytes / 1e6, copies.path.c_str()));
  if (cached.empty()) {
    line("model", "none in " + models::model_cache().directory().string());
    advice.emplace_back("No model is cached. Fetch the default one with: troupe pull smollm2-135m-instruct");
  }
}

}  // namespace

int doctor(bool measure) {
  const base::machine machine = base::read_machine();
  std::vector<std::string> advice;
  std::printf("This machine\n");
  show_processor(machine, advice);
  show_memory(machine, advice);
  show_accelerator(advice);
  std::fflush(stdout);
  std::printf("Its limits, measured\n");
  const auto limits = show_limits();
  show_gpu_limits();
  std::printf("Its products\n");
  show_products(limits, measure);
  std::printf("Models\n");
  show_models(advice);
  std::printf("What to do\n");
  for (const auto& item : advice) std::printf("  - %s\n", item.c_str());
  if (advice.empty()) std::printf("  Nothing: all is well. Start with: troupe serve\n");
  return 0;
}

}  // namespace troupe::cli
