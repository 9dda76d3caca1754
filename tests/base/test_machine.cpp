// machine: cgroup and /proc files of several kinds, laid out in a directory of the test's own.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <unistd.h>

#include "base/machine.hpp"
#include "support/catch.hpp"

namespace {

namespace fs = std::filesystem;

/// A root directory with the files a test writes, gone at the end.
struct fake_root {
  fake_root() {
    std::string name = (fs::temp_directory_path() / "troupe-machine-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path = name;
    write("proc/meminfo", "MemTotal:       16000000 kB\nMemFree:  1 kB\nMemAvailable:   8000000 kB\n");
  }
  ~fake_root() { fs::remove_all(path); }
  fake_root(const fake_root&) = delete;
  fake_root& operator=(const fake_root&) = delete;

  void write(const std::string& name, const std::string& text) const {
    fs::create_directories((path / name).parent_path());
    std::ofstream(path / name) << text;
  }

  fs::path path;
};

constexpr std::uint64_t kib = 1024;

}  // namespace

TEST_CASE("without cgroups the machine's own figures hold") {
  fake_root root;
  const auto memory = troupe::base::read_memory_limits(root.path);
  CHECK(memory.total == 16000000 * kib);
  CHECK(memory.available == 8000000 * kib);
  CHECK(memory.cgroup_limit == 0);
  const auto cpu = troupe::base::read_cpu_limits(root.path);
  CHECK(cpu.quota == 0.0);
  CHECK(cpu.usable == cpu.allowed);
  CHECK(cpu.allowed >= 1);
}

TEST_CASE("the tightest cgroup v2 limit above the process holds") {
  fake_root root;
  root.write("proc/self/cgroup", "0::/system.slice/troupe.service\n");
  root.write("sys/fs/cgroup/system.slice/cpu.max", "150000 100000\n");
  root.write("sys/fs/cgroup/system.slice/troupe.service/cpu.max", "max 100000\n");
  root.write("sys/fs/cgroup/system.slice/memory.max", "2147483648\n");
  root.write("sys/fs/cgroup/system.slice/memory.current", "1610612736\n");
  root.write("sys/fs/cgroup/system.slice/memory.stat", "anon 5\ninactive_file 536870912\n");
  root.write("sys/fs/cgroup/system.slice/troupe.service/memory.max", "max\n");
  const auto cpu = troupe::base::read_cpu_limits(root.path);
  CHECK(cpu.quota == 1.5);
  CHECK(cpu.usable == 1);
  const auto memory = troupe::base::read_memory_limits(root.path);
  CHECK(memory.cgroup_limit == 2147483648u);
  CHECK(memory.available == 2147483648u - (1610612736u - 536870912u));
}

TEST_CASE("inside a container the mount's root stands for a path that is not there") {
  fake_root root;
  root.write("proc/self/cgroup", "0::/docker/0123abc\n");
  root.write("sys/fs/cgroup/memory.max", "1073741824\n");
  root.write("sys/fs/cgroup/memory.current", "2147483648\n");
  const auto memory = troupe::base::read_memory_limits(root.path);
  CHECK(memory.cgroup_limit == 1073741824u);
  CHECK(memory.available == 0);
}

TEST_CASE("cgroup v1 limits hold, and its number for no limit is none") {
  fake_root root;
  root.write("proc/self/cgroup", "5:memory:/job\n4:cpu,cpuacct:/job\n");
  root.write("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "50000\n");
  root.write("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  root.write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1073741824\n");
  root.write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "73741824\n");
  root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  CHECK(troupe::base::read_cpu_limits(root.path).quota == 0.5);
  CHECK(troupe::base::read_cpu_limits(root.path).usable == 1);
  const auto memory = troupe::base::read_memory_limits(root.path);
  CHECK(memory.cgroup_limit == 1073741824u);
  CHECK(memory.available == 1000000000u);
}

TEST_CASE("nonsense in the files changes nothing") {
  fake_root root;
  root.write("proc/self/cgroup", "0::\n:::::\nnothing\n0::/../../..\n");
  root.write("sys/fs/cgroup/cpu.max", "-1 0\n");
  root.write("sys/fs/cgroup/memory.max", "99999999999999999999999\n");
  CHECK(troupe::base::read_cpu_limits(root.path).quota == 0.0);
  CHECK(troupe::base::read_memory_limits(root.path).cgroup_limit == 0);
}

TEST_CASE("names, features and caches are read") {
  fake_root root;
  root.write("proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU @ 2GHz\nflags\t\t: fpu avx2 avx512_vnni xyz\n");
  root.write("sys/devices/system/cpu/cpu0/cache/index0/level", "1\n");
  root.write("sys/devices/system/cpu/cpu0/cache/index0/type", "Data\n");
  root.write("sys/devices/system/cpu/cpu0/cache/index0/size", "48K\n");
  root.write("sys/devices/system/cpu/cpu0/cache/index1/level", "1\n");
  root.write("sys/devices/system/cpu/cpu0/cache/index1/type", "Instruction\n");
  root.write("sys/devices/system/cpu/cpu0/cache/index1/size", "32K\n");
  root.write("sys/devices/system/cpu/cpu0/cache/index3/level", "3\n");
  root.write("sys/devices/system/cpu/cpu0/cache/index3/type", "Unified\n");
  root.write("sys/devices/system/cpu/cpu0/cache/index3/size", "32M\n");
  const auto machine = troupe::base::read_machine(root.path);
  CHECK(machine.cpu_name == "Some CPU @ 2GHz");
  CHECK(machine.cpu_features == std::vector<std::string>{"avx2", "avx512_vnni"});
  CHECK(machine.cache.l1_data == 48 * kib);
  CHECK(machine.cache.l2 == 0);
  CHECK(machine.cache.l3 == 32 * kib * kib);
}

TEST_CASE("a processor is told from others by the first one's lines and its caches") {
  fake_root root;
  const std::string first =
      "processor\t: 0\nvendor_id\t: Maker\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: Some CPU\nstepping\t: 8\ncpu "
      "MHz\t\t: 2000\n";
  root.write("proc/cpuinfo", first + "\nprocessor\t: 1\nvendor_id\t: Other\n");
  root.write("sys/devices/system/cpu/cpu0/cache/index0/level", "2\n");
  root.write("sys/devices/system/cpu/cpu0/cache/index0/size", "2048K\n");
  CHECK(troupe::base::read_processor(root.path) == "Maker, 6, 143, 8, Some CPU, caches 0 2097152 0");
  CHECK(troupe::base::read_processor(fake_root().path) == "caches 0 0 0");
}

TEST_CASE("what the kernel does about huge pages is the word in brackets") {
  using troupe::base::huge_pages;
  for (const auto& [text, meaning] : {std::pair{"[always] madvise never\n", huge_pages::always},
                                      {"always [madvise] never\n", huge_pages::on_request},
                                      {"always madvise [never]\n", huge_pages::never},
                                      {"always\n", huge_pages::unknown}}) {
    fake_root root;
    root.write("sys/kernel/mm/transparent_hugepage/enabled", text);
    CHECK(troupe::base::read_machine(root.path).pages == meaning);
  }
  CHECK(troupe::base::read_machine(fake_root().path).pages == huge_pages::unknown);
}

TEST_CASE("this machine has memory and at least one core") {
  const auto machine = troupe::base::read_machine();
  CHECK(machine.memory.total > 0);
  CHECK(machine.memory.available <= machine.memory.total);
  CHECK(machine.cpu.usable >= 1);
  CHECK(machine.cpu.usable <= machine.cpu.online);
}
