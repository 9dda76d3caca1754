// Reads the kernel's own text files: proc(5), sysfs, cgroups(7).
#include "base/machine.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string_view>

#include <unistd.h>

#include "base/topology.hpp"

namespace troupe::base {
namespace {

namespace fs = std::filesystem;

std::string read_text(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The number at the start of `text`; nothing for "max" and other words.
std::optional<std::int64_t> leading_number(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  std::int64_t value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc{}) return std::nullopt;
  return value;
}

std::optional<std::int64_t> number_in(const fs::path& path) { return leading_number(read_text(path)); }

/// What follows "name" and a colon in files of such lines.
std::string field_of(const std::string& text, std::string_view name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const auto colon = line.find(':');
    if (colon == std::string::npos || line.compare(0, name.size(), name) != 0) continue;
    if (line.find_first_not_of(" \t", name.size()) != colon) continue;
    const auto start = line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? "" : line.substr(start);
  }
  return "";
}

std::uint64_t kibibytes_of(const std::string& text, std::string_view name) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, leading_number(field_of(text, name)).value_or(0))) * 1024;
}

/// The directories of this process's cgroup and all above it, nearest first. `controller` is "" for v2. Inside a
/// container the path of /proc/self/cgroup may lie outside of what is mounted: the mount's root then stands for it.
std::vector<fs::path> cgroup_directories(const fs::path& root, std::string_view controller) {
  const fs::path mount = root / "sys/fs/cgroup" / controller;
  std::vector<fs::path> found;
  std::istringstream lines(read_text(root / "proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {
    const auto first = line.find(':');
    const auto second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool ours =
        controller.empty() ? names == ",," : names.find("," + std::string(controller) + ",") != names.npos;
    if (!ours) continue;
    for (fs::path inside = fs::path(line.substr(second + 1)).relative_path(); !inside.empty();
         inside = inside.parent_path())
      if (std::error_code ignored; fs::is_directory(mount / inside, ignored)) found.push_back(mount / inside);
  }
  found.push_back(mount);
  return found;
}

/// Cores granted: the tightest of v2's "cpu.max" ("200000 100000") and v1's pair of files.
double cpu_quota(const fs::path& root) {
  double tightest = 0;
  const auto take = [&](std::optional<std::int64_t> quota, std::optional<std::int64_t> period) {
    if (!quota || *quota <= 0 || !period || *period <= 0) return;
    const double cores = static_cast<double>(*quota) / static_cast<double>(*period);
    if (tightest == 0 || cores < tightest) tightest = cores;
  };
  for (const auto& group : cgroup_directories(root, "")) {
    const std::string both = read_text(group / "cpu.max");
    const auto space = both.find(' ');
    if (space != std::string::npos) take(leading_number(both), leading_number(both.substr(space)));
  }
  for (const auto& group : cgroup_directories(root, "cpu"))
    take(number_in(group / "cpu.cfs_quota_us"), number_in(group / "cpu.cfs_period_us"));
  return tightest;
}

/// Narrows `limits` by one cgroup's limit and use.
void narrow(memory_limits& limits, std::optional<std::int64_t> limit, std::optional<std::int64_t> used,
            std::int64_t reclaimable) {
  if (!limit || *limit < 0) return;
  const auto most = static_cast<std::uint64_t>(*limit);
  if (limits.total != 0 && most >= limits.total) return;  // v1 writes "no limit" as a number beyond any memory
  if (limits.cgroup_limit == 0 || most < limits.cgroup_limit) limits.cgroup_limit = most;
  // Page cache counts as use, but the kernel gives the inactive part of it up before it kills.
  const auto held = static_cast<std::uint64_t>(std::max<std::int64_t>(0, used.value_or(0) - reclaimable));
  limits.available = std::min(limits.available, most > held ? most - held : 0);
}

/// A counter of memory.stat, whose lines are "name value".
std::int64_t statistic(const fs::path& file, std::string_view name) {
  std::istringstream lines(read_text(file));
  for (std::string line; std::getline(lines, line);)
    if (line.compare(0, name.size(), name) == 0 && line.size() > name.size() && line[name.size()] == ' ')
      return leading_number(std::string_view(line).substr(name.size())).value_or(0);
  return 0;
}

std::vector<std::string> known_features(const std::string& cpuinfo) {
  constexpr std::array wanted{"sse4_2",      "avx",         "f16c",     "fma",      "avx2",
                              "avx_vnni",    "avx512f",     "avx512bw", "avx512vl", "avx512_vnni",
                              "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
                              "asimd",       "asimddp",     "i8mm",     "bf16",     "sve"};
  std::istringstream words(field_of(cpuinfo, "flags") + ' ' + field_of(cpuinfo, "Features"));
  std::vector<std::string> found;
  for (std::string word; words >> word;)
    if (std::find(wanted.begin(), wanted.end(), word) != wanted.end()) found.push_back(word);
  return found;
}

std::uint64_t cache_bytes(const std::string& size) {
  const auto number = leading_number(size);
  if (!number || *number < 0) return 0;
  const auto unit = size.find_first_of("KM");
  const std::uint64_t scale = unit == std::string::npos ? 1 : size[unit] == 'K' ? 1024 : 1024 * 1024;
  return static_cast<std::uint64_t>(*number) * scale;
}

cache_sizes read_caches(const fs::path& root) {
  cache_sizes sizes;
  for (int index = 0; index < 8; ++index) {
    const fs::path cache = root / "sys/devices/system/cpu/cpu0/cache" / ("index" + std::to_string(index));
    const std::uint64_t bytes = cache_bytes(read_text(cache / "size"));
    if (bytes == 0 || read_text(cache / "type").starts_with("Instruction")) continue;
    switch (number_in(cache / "level").value_or(0)) {
      case 1: sizes.l1_data = bytes; break;
      case 2: sizes.l2 = bytes; break;
      case 3: sizes.l3 = bytes; break;
      default: break;
    }
  }
  return sizes;
}

/// "always [madvise] never": the word in brackets.
huge_pages read_huge_pages(const fs::path& root) {
  const std::string text = read_text(root / "sys/kernel/mm/transparent_hugepage/enabled");
  if (text.find("[always]") != text.npos) return huge_pages::always;
  if (text.find("[madvise]") != text.npos) return huge_pages::on_request;
  return text.find("[never]") != text.npos ? huge_pages::never : huge_pages::unknown;
}

}  // namespace

cpu_limits read_cpu_limits(const fs::path& root) {
  cpu_limits limits;
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  const auto affinity = static_cast<int>(allowed_cpus().size());
  limits.online = static_cast<int>(std::max(1L, online));
  limits.allowed = affinity > 0 ? affinity : limits.online;
  limits.quota = cpu_quota(root);
  limits.usable = limits.allowed;
  // Rounded down: threads beyond the quota are stopped in the middle of a step, and the rest wait for them.
  if (limits.quota > 0) limits.usable = std::min(limits.usable, static_cast<int>(std::min(limits.quota, 1e6)));
  limits.usable = std::max(1, limits.usable);
  return limits;
}

memory_limits read_memory_limits(const fs::path& root) {
  memory_limits limits;
  const std::string meminfo = read_text(root / "proc/meminfo");
  limits.total = kibibytes_of(meminfo, "MemTotal");
  limits.available = kibibytes_of(meminfo, "MemAvailable");
  for (const auto& group : cgroup_directories(root, ""))
    narrow(limits, number_in(group / "memory.max"), number_in(group / "memory.current"),
           statistic(group / "memory.stat", "inactive_file"));
  for (const auto& group : cgroup_directories(root, "memory"))
    narrow(limits, number_in(group / "memory.limit_in_bytes"), number_in(group / "memory.usage_in_bytes"),
           statistic(group / "memory.stat", "total_inactive_file"));
  return limits;
}

std::string read_processor(const fs::path& root) {
  std::ifstream file(root / "proc/cpuinfo");
  std::string cpuinfo, all;  // of one processor: with hundreds of them the file takes milliseconds
  for (std::string line; std::getline(file, line) && !line.empty();) cpuinfo += line + '\n';
  for (const char* field : {"vendor_id", "cpu family", "model", "stepping", "model name", "CPU implementer",
                            "CPU variant", "CPU part", "CPU revision"})
    if (const std::string value = field_of(cpuinfo, field); !value.empty()) all += value + ", ";
  const cache_sizes caches = read_caches(root);
  return all + "caches " + std::to_string(caches.l1_data) + " " + std::to_string(caches.l2) + " " +
         std::to_string(caches.l3);
}

machine read_machine(const fs::path& root) {
  machine m;
  const std::string cpuinfo = read_text(root / "proc/cpuinfo");
  m.cpu_name = field_of(cpuinfo, "model name");
  m.cpu_features = known_features(cpuinfo);
  m.cpu = read_cpu_limits(root);
  m.memory = read_memory_limits(root);
  m.cache = read_caches(root);
  m.pages = read_huge_pages(root);
  return m;
}

}  // namespace troupe::base
