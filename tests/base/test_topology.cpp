// topology: processors of several kinds of machine, laid out as sysfs lays them out in a directory of the test's own.
#include <algorithm>
#include <fstream>
#include <numeric>
#include <string>

#include "base/topology.hpp"
#include "support/catch.hpp"
#include "support/scratch_directory.hpp"

namespace {

using troupe::base::core;
using troupe::base::read_topology;
using troupe::base::topology;

struct fake_machine {
  troupe::test::scratch_directory root;

  void write(const std::string& name, const std::string& text) const {
    const auto path = root.path / "sys/devices" / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text << '\n';
  }
  void cpu(int number, const std::string& file, const std::string& text) const {
    write("system/cpu/cpu" + std::to_string(number) + "/" + file, text);
  }
  topology read(std::vector<int> allowed) const { return read_topology(allowed, root.path); }
};

std::vector<int> first_cpus(int count) {
  std::vector<int> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

/// Two sockets of four cores with two threads each, numbered as BIOSes do: siblings are eight apart.
void two_sockets(const fake_machine& m) {
  for (int cpu = 0; cpu < 16; ++cpu) {
    const int one = cpu % 8;
    m.cpu(cpu, "topology/core_cpus_list", std::to_string(one) + "," + std::to_string(one + 8));
    m.cpu(cpu, "cpufreq/cpuinfo_max_freq", cpu % 8 == 3 ? "3900000" : "3700000");  // one core is a little better
  }
  m.write("system/node/online", "0-1");
  m.write("system/node/node0/cpulist", "0-3,8-11");
  m.write("system/node/node1/cpulist", "4-7,12-15");
}

/// Two performance cores with two threads each, four efficiency cores.
void hybrid(const fake_machine& m) {
  for (int cpu = 0; cpu < 4; ++cpu) m.cpu(cpu, "topology/thread_siblings_list", cpu < 2 ? "0-1" : "2-3");
  for (int cpu = 4; cpu < 8; ++cpu) m.cpu(cpu, "topology/thread_siblings_list", std::to_string(cpu));
  for (int cpu = 0; cpu < 8; ++cpu) m.cpu(cpu, "cpufreq/cpuinfo_max_freq", cpu < 4 ? "5000000" : "3800000");
  m.write("cpu_core/cpus", "0-3");
  m.write("cpu_atom/cpus", "4-7");
}

}  // namespace

TEST_CASE("two sockets are two nodes, and siblings are one core") {
  fake_machine m;
  two_sockets(m);
  const topology found = m.read(first_cpus(16));
  REQUIRE(found.cores.size() == 8);
  CHECK(found.nodes() == 2);
  CHECK(found.shares_cores());
  CHECK_FALSE(found.has_efficiency_cores());
  for (int i = 0; i < 8; ++i) {
    const core& one = found.cores[static_cast<std::size_t>(i)];
    CHECK(one.cpus == std::vector{i, i + 8});
    CHECK(one.node == i / 4);
    CHECK(one.speed == core::full_speed);
  }
}

TEST_CASE("a cpuset leaves only what it holds") {
  fake_machine m;
  two_sockets(m);
  const topology found = m.read({2, 5, 10, 13, 14});
  REQUIRE(found.cores.size() == 3);
  CHECK(found.cores[0].cpus == std::vector{2, 10});
  CHECK(found.cores[1].cpus == std::vector{5, 13});
  CHECK(found.cores[2].cpus == std::vector{14});  // its sibling 6 belongs to somebody else
  CHECK(found.cores[2].node == 1);
}

TEST_CASE("efficiency cores of a hybrid processor come last and count for less") {
  fake_machine m;
  hybrid(m);
  const topology found = m.read(first_cpus(8));
  REQUIRE(found.cores.size() == 6);
  CHECK(found.has_efficiency_cores());
  CHECK(found.nodes() == 1);
  CHECK(found.cores[0].cpus == std::vector{0, 1});
  CHECK(found.cores[1].speed == core::full_speed);
  for (std::size_t i = 2; i < 6; ++i) {
    CHECK(found.cores[i].cpus == std::vector{static_cast<int>(i) + 2});
    CHECK(found.cores[i].speed == core::full_speed / 2);
  }
  const topology only_efficient = m.read({4, 5, 6, 7});
  CHECK_FALSE(only_efficient.has_efficiency_cores());
}

TEST_CASE("what the firmware says of capacity goes before clock rates") {
  fake_machine m;
  for (int cpu = 0; cpu < 4; ++cpu) {
    m.cpu(cpu, "cpu_capacity", cpu < 2 ? "446" : "1024");
    m.cpu(cpu, "cpufreq/cpuinfo_max_freq", "2000000");
  }
  const topology found = m.read(first_cpus(4));
  REQUIRE(found.cores.size() == 4);
  CHECK(found.cores[0].cpus == std::vector{2});
  CHECK(found.cores[0].speed == core::full_speed);
  CHECK(found.cores[3].cpus == std::vector{1});
  CHECK(found.cores[3].speed == 446);
}

TEST_CASE("clock rates alone tell slow cores apart") {
  fake_machine m;
  for (int cpu = 0; cpu < 4; ++cpu) m.cpu(cpu, "cpufreq/cpuinfo_max_freq", cpu == 0 ? "1500000" : "3000000");
  const topology found = m.read(first_cpus(4));
  CHECK(found.cores[3].cpus == std::vector{0});
  CHECK(found.cores[3].speed == core::full_speed / 2);
}

TEST_CASE("without sysfs every processor is a core of its own") {
  fake_machine m;
  const topology found = m.read({0, 3, 70});
  REQUIRE(found.cores.size() == 3);
  CHECK(found.cores[2].cpus == std::vector{70});
  CHECK(found.nodes() == 1);
  CHECK_FALSE(found.shares_cores());
  CHECK(m.read({}).cores.size() == 1);
}

TEST_CASE("nonsense in the files is the plain case") {
  for (const char* text : {"", "x", "-1", "3-1", "0-", "0-99999999999", "0,,1", "1 2", "0-1000000"}) {
    INFO(text);
    fake_machine m;
    for (int cpu = 0; cpu < 2; ++cpu) {
      m.cpu(cpu, "topology/core_cpus_list", text);
      m.cpu(cpu, "topology/thread_siblings_list", text);
      m.cpu(cpu, "cpu_capacity", text);
      m.cpu(cpu, "cpufreq/cpuinfo_max_freq", text);
    }
    m.write("system/node/online", text);
    m.write("system/node/node0/cpulist", text);
    m.write("cpu_atom/cpus", text);
    const topology found = m.read({0, 1});
    REQUIRE(found.cores.size() == 2);
    for (const core& one : found.cores) CHECK((one.cpus.size() == 1 && one.node == 0 && one.speed == core::full_speed));
  }
}

TEST_CASE("a core whose siblings leave it out keeps itself") {
  fake_machine m;
  m.cpu(0, "topology/core_cpus_list", "1");
  const topology found = m.read({0, 1});
  REQUIRE(found.cores.size() == 1);
  CHECK(found.cores[0].cpus == std::vector{0, 1});
}

TEST_CASE("this machine's cores hold exactly the processors of the affinity mask") {
  std::vector<int> found;
  for (const core& one : read_topology().cores) found.insert(found.end(), one.cpus.begin(), one.cpus.end());
  std::sort(found.begin(), found.end());
  CHECK(found == troupe::base::allowed_cpus());
  CHECK(found.size() >= 1);
}
