// What this process may use of the machine: cores, memory, caches, CPU features, with affinity and cgroup limits
// (v1 and v2) taken into account. Knows nothing of what Troupe does with it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace troupe::base {

struct cpu_limits {
  int online = 1;      ///< logical processors of the machine
  int allowed = 1;     ///< of these, those in this process's affinity mask
  double quota = 0.0;  ///< cores that the cgroups grant on average; 0: no limit
  int usable = 1;      ///< what a thread team should count on: at least 1
};

struct memory_limits {
  std::uint64_t total = 0;         ///< bytes of RAM
  std::uint64_t available = 0;     ///< as the kernel estimates, before swapping; within the cgroups' room
  std::uint64_t cgroup_limit = 0;  ///< the tightest limit above this process; 0: none
};

struct cache_sizes {
  std::uint64_t l1_data = 0;  ///< bytes a core
  std::uint64_t l2 = 0;       ///< bytes a core
  std::uint64_t l3 = 0;       ///< bytes, shared
};

/// What the kernel does about transparent huge pages. Weights ask for them (madvise).
enum class huge_pages { unknown, always, on_request, never };

struct machine {
  std::string cpu_name;                   ///< the vendor's own words, or ""
  std::vector<std::string> cpu_features;  ///< "avx2", "avx512f", "avx512_vnni", ...: those that kernels may care about
  cpu_limits cpu;
  memory_limits memory;
  cache_sizes cache;
  huge_pages pages = huge_pages::unknown;
};

/// Reads /proc, /sys and the affinity mask. `root` is where /proc and /sys are looked for; a test gives its own.
/// What cannot be read stays at its default. About a millisecond; ask once and keep the answer.
machine read_machine(const std::filesystem::path& root = "/");

/// What tells this machine's processor from others: maker, family, model, stepping, name and cache sizes, in one line.
/// Reads one processor's part of /proc/cpuinfo.
std::string read_processor(const std::filesystem::path& root = "/");

/// The parts, for those who want fresh figures.
cpu_limits read_cpu_limits(const std::filesystem::path& root = "/");
memory_limits read_memory_limits(const std::filesystem::path& root = "/");

}  // namespace troupe::base
