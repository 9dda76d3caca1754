// The physical cores that this process may use: which logical processors are one core, which NUMA node it belongs to
// and how fast it is beside the others. Knows nothing of what runs on them.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

namespace troupe::base {

struct core {
  static constexpr int full_speed = 1024;

  std::vector<int> cpus;   ///< logical processors, ascending; more than one where threads share the core
  int node = 0;            ///< of memory (NUMA)
  int speed = full_speed;  ///< beside the machine's fastest cores: an efficiency core has less
};

struct topology {
  std::vector<core> cores;  ///< the fastest first, then by node, then by number: never empty

  int nodes() const;                  ///< that have a core here
  bool shares_cores() const;          ///< some core offers a second logical processor
  bool has_efficiency_cores() const;  ///< cores of more than one speed
};

/// Logical processors in this thread's affinity mask, ascending; a cpuset is taken into account by it. Empty where the
/// kernel does not say.
std::vector<int> allowed_cpus();

/// Lets thread `tid` (0: this one) run on these processors alone. False: the kernel refused, and nothing changed.
bool bind_thread(int tid, std::span<const int> cpus) noexcept;

/// Reads sysfs below `root` for the processors in `allowed`. What is missing or nonsense there is taken for the plain
/// case: a core of its own, node 0, full speed. Some tens of microseconds a processor.
topology read_topology(std::span<const int> allowed, const std::filesystem::path& root = "/");
topology read_topology();

}  // namespace troupe::base
