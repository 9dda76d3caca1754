// Places and weights of members on machines of several kinds.
#include "support/catch.hpp"

#include "kernels/cpu/team_plan.hpp"

using namespace troupe;
using namespace troupe::kernels;

namespace {

/// Two nodes of `each` cores with two processors a core; siblings are `2 * each` apart.
base::topology two_nodes(int each) {
  base::topology machine;
  for (int i = 0; i < 2 * each; ++i) machine.cores.push_back({{i, i + 2 * each}, i / each, base::core::full_speed});
  return machine;
}

base::topology laptop() {
  base::topology machine;
  for (int i = 0; i < 4; ++i) machine.cores.push_back({{2 * i, 2 * i + 1}, 0, base::core::full_speed});
  for (int i = 0; i < 4; ++i) machine.cores.push_back({{8 + i}, 0, 512});
  return machine;
}

base::topology plain(int cores) {
  base::topology machine;
  for (int i = 0; i < cores; ++i) machine.cores.push_back({{i}, 0, base::core::full_speed});
  return machine;
}

std::vector<int> nodes_of(const base::topology& machine, int threads) {
  std::vector<int> found;
  for (const member_place& place : plan_team(machine, threads))
    for (const base::core& one : machine.cores)
      if (!place.cpus.empty() && one.cpus.front() == place.cpus.front()) found.push_back(one.node);
  return found;
}

}  // namespace

TEST_CASE("on one node of like cores nobody is bound and all weigh the same") {
  for (const int threads : {1, 3, 4, 9}) {
    const auto places = plan_team(plain(4), threads);
    REQUIRE(places.size() == static_cast<std::size_t>(threads));
    for (const member_place& place : places) CHECK((place.cpus.empty() && place.weight == places.front().weight));
  }
}

TEST_CASE("members stay on a node, and take no more nodes than they need") {
  const auto machine = two_nodes(4);
  CHECK(nodes_of(machine, 3) == std::vector{0, 0, 0});
  CHECK(nodes_of(machine, 4) == std::vector{0, 0, 0, 0});
  CHECK(nodes_of(machine, 6) == std::vector{0, 0, 0, 1, 1, 1});
  CHECK(nodes_of(machine, 8) == std::vector{0, 0, 0, 0, 1, 1, 1, 1});
  CHECK(nodes_of(machine, 12).size() == 12);
  CHECK(plan_team(machine, 8).back().cpus == std::vector{4, 12, 5, 13, 6, 14, 7, 15});
}

TEST_CASE("efficiency cores come last, weigh less and are not mixed with the others") {
  const auto places = plan_team(laptop(), 8);
  REQUIRE(places.size() == 8);
  CHECK(places[0].cpus == std::vector{0, 1, 2, 3, 4, 5, 6, 7});
  CHECK(places[3].weight == base::core::full_speed);
  CHECK(places[4].cpus == std::vector{8, 9, 10, 11});
  CHECK(places[7].weight == 512);
  CHECK(plan_team(laptop(), 4).back().weight == base::core::full_speed);
}

TEST_CASE("a thread a core, fewer under a quota, one core left on large machines without second processors") {
  CHECK(threads_for(plain(1), 0) == 1);
  CHECK(threads_for(plain(2), 0) == 2);
  CHECK(threads_for(plain(8), 0) == 8);
  CHECK(threads_for(plain(16), 0) == 15);
  CHECK(threads_for(two_nodes(8), 0) == 16);
  CHECK(threads_for(laptop(), 0) == 8);
  CHECK(threads_for(plain(8), 2.5) == 2);
  CHECK(threads_for(plain(8), 0.5) == 1);
  CHECK(threads_for(plain(2), 64) == 2);
}
