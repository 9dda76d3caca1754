// Reads the kernel's files on processors and nodes. Sources: Documentation/ABI/stable/sysfs-devices-system-cpu and
// -node; testing/sysfs-devices-system-cpu for cpu_capacity and cpufreq; the PMU devices cpu_core and cpu_atom of hybrid
// x86 processors.
#include "base/topology.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>

#include <sched.h>

namespace troupe::base {
namespace {

namespace fs = std::filesystem;

constexpr int most_cpus = 1 << 16;
constexpr int most_nodes = 1 << 10;

std::string read_text(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::optional<int> number(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  int value = 0;
  const auto [end, wrong] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (wrong != std::errc{} || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

/// "0-3,8": nothing where any part is nonsense.
std::set<int> cpu_list(std::string_view text) {
  std::set<int> found;
  while (!text.empty()) {
    const std::string_view part = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), part.size() + 1));
    const auto dash = part.find('-');
    const auto first = number(part.substr(0, dash));
    const auto last = dash == part.npos ? first : number(part.substr(dash + 1));
    if (!first || !last || *last < *first || *last >= most_cpus) return {};
    for (int cpu = *first; cpu <= *last; ++cpu) found.insert(found.end(), cpu);
  }
  return found;
}

class sysfs {
public:
  explicit sysfs(const fs::path& root) : devices_(root / "sys/devices") {}

  /// `allowed` cut into sets that share a core.
  std::vector<core> cores(std::span<const int> allowed) const {
    std::set<int> left(allowed.begin(), allowed.end());
    std::vector<core> found;
    while (!left.empty()) {
      const int first = *left.begin();
      core one;
      for (const int cpu : siblings_of(first))
        if (left.erase(cpu) != 0) one.cpus.push_back(cpu);
      if (left.erase(first) != 0) one.cpus.insert(one.cpus.begin(), first);
      found.push_back(std::move(one));
    }
    return found;
  }

  void find_nodes(std::vector<core>& cores) const {
    for (const int node : cpu_list(read_text(devices_ / "system/node/online"))) {
      if (node >= most_nodes) return;
      const auto members = cpu_list(read_text(devices_ / "system/node" / ("node" + std::to_string(node)) / "cpulist"));
      for (core& one : cores)
        if (members.contains(one.cpus.front())) one.node = node;
    }
  }

  /// By the first of three sources that tells cores apart: what the firmware says of each, the kinds of a hybrid x86
  /// processor, the highest clock rates.
  void find_speeds(std::vector<core>& cores) const {
    if (scale(cores, [&](int cpu) { return number_of(cpu, "cpu_capacity"); })) return;
    const auto efficient = cpu_list(read_text(devices_ / "cpu_atom/cpus"));
    // The vector units of such a core are half as wide or half as many.
    if (scale(cores, [&](int cpu) { return std::optional(efficient.contains(cpu) ? 1 : 2); })) return;
    scale(cores, [&](int cpu) { return number_of(cpu, "cpufreq/cpuinfo_max_freq"); });
  }

private:
  fs::path of(int cpu) const { return devices_ / "system/cpu" / ("cpu" + std::to_string(cpu)); }
  std::optional<int> number_of(int cpu, const char* file) const { return number(read_text(of(cpu) / file)); }

  std::set<int> siblings_of(int cpu) const {
    auto found = cpu_list(read_text(of(cpu) / "topology/core_cpus_list"));
    if (found.empty()) found = cpu_list(read_text(of(cpu) / "topology/thread_siblings_list"));
    return found;
  }

  /// False, and nothing changed, where a core has no figure or all are of one kind. The best cores of a processor clock
  /// a few per cent higher than the rest: that makes no other kind.
  template <class Figure>
  static bool scale(std::vector<core>& cores, const Figure& figure) {
    constexpr double same_kind = 0.85;
    std::vector<double> figures;
    for (const core& one : cores) {
      const auto value = figure(one.cpus.front());
      if (!value || *value <= 0) return false;
      figures.push_back(*value);
    }
    const double best = *std::max_element(figures.begin(), figures.end());
    if (*std::min_element(figures.begin(), figures.end()) >= same_kind * best) return false;
    for (std::size_t i = 0; i < cores.size(); ++i) {
      const double part = figures[i] / best;
      cores[i].speed = part >= same_kind ? core::full_speed : std::max(1, static_cast<int>(part * core::full_speed));
    }
    return true;
  }

  fs::path devices_;
};

}  // namespace

int topology::nodes() const {
  std::set<int> seen;
  for (const core& one : cores) seen.insert(one.node);
  return static_cast<int>(seen.size());
}

bool topology::shares_cores() const {
  return std::any_of(cores.begin(), cores.end(), [](const core& one) { return one.cpus.size() > 1; });
}

bool topology::has_efficiency_cores() const {
  return std::any_of(cores.begin(), cores.end(), [this](const core& one) { return one.speed != cores.front().speed; });
}

std::vector<int> allowed_cpus() {
  // The kernel refuses a mask that is too small for it: grow until it fits.
  for (int bits = 1024; bits <= most_cpus; bits *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(bits));
    if (set == nullptr) return {};
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(bits));
    CPU_ZERO_S(bytes, set);
    std::vector<int> found;
    const bool told = sched_getaffinity(0, bytes, set) == 0;
    for (int cpu = 0; told && cpu < bits; ++cpu)
      if (CPU_ISSET_S(static_cast<std::size_t>(cpu), bytes, set)) found.push_back(cpu);
    CPU_FREE(set);
    if (told) return found;
  }
  return {};
}

bool bind_thread(int tid, std::span<const int> cpus) noexcept {
  if (cpus.empty()) return false;
  const auto bits = static_cast<std::size_t>(*std::max_element(cpus.begin(), cpus.end())) + 1;
  cpu_set_t* set = CPU_ALLOC(bits);
  if (set == nullptr) return false;
  const std::size_t bytes = CPU_ALLOC_SIZE(bits);
  CPU_ZERO_S(bytes, set);
  for (const int cpu : cpus) CPU_SET_S(static_cast<std::size_t>(cpu), bytes, set);
  const bool bound = sched_setaffinity(tid, bytes, set) == 0;
  CPU_FREE(set);
  return bound;
}

topology read_topology(std::span<const int> allowed, const fs::path& root) {
  const sysfs files(root);
  topology found{files.cores(allowed)};
  if (found.cores.empty()) found.cores.push_back({{0}, 0, core::full_speed});
  files.find_nodes(found.cores);
  files.find_speeds(found.cores);
  std::sort(found.cores.begin(), found.cores.end(), [](const core& a, const core& b) {
    return std::tuple(-a.speed, a.node, a.cpus.front()) < std::tuple(-b.speed, b.node, b.cpus.front());
  });
  return found;
}

topology read_topology() {
  std::vector<int> allowed = allowed_cpus();
  if (allowed.empty())
    for (unsigned cpu = 0; cpu < std::max(1u, std::thread::hardware_concurrency()); ++cpu)
      allowed.push_back(static_cast<int>(cpu));
  return read_topology(allowed);
}

}  // namespace troupe::base
