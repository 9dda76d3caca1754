// Groups of like cores; members spread over them in order.
#include "kernels/cpu/team_plan.hpp"

#include <algorithm>
#include <cstddef>

namespace troupe::kernels {
namespace {

constexpr std::size_t cores_that_leave_one = 8;

bool alike(const base::core& a, const base::core& b) { return a.node == b.node && a.speed == b.speed; }

/// Cores in the order in which members take them: whole nodes, as few as will do, each with an even part.
std::vector<const base::core*> seats(const base::topology& machine, std::size_t threads) {
  std::vector<int> nodes;
  for (const base::core& one : machine.cores)
    if (std::find(nodes.begin(), nodes.end(), one.node) == nodes.end()) nodes.push_back(one.node);
  const auto on = [&](int node) {
    std::vector<const base::core*> found;
    for (const base::core& one : machine.cores)
      if (one.node == node) found.push_back(&one);
    return found;
  };
  std::size_t needed = 0, room = 0;
  while (needed < nodes.size() && room < threads) room += on(nodes[needed++]).size();
  std::vector<const base::core*> order;
  for (std::size_t i = 0; i < needed; ++i) {
    const auto cores = on(nodes[i]);
    const std::size_t part = threads * (i + 1) / needed - threads * i / needed;
    for (std::size_t seat = 0; seat < part; ++seat) order.push_back(cores[seat % cores.size()]);
  }
  // The slowest last: a team that narrows gives them up first.
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->speed > b->speed; });
  return order;
}

}  // namespace

std::vector<member_place> plan_team(const base::topology& machine, int threads) {
  const bool bind = machine.nodes() > 1 || machine.has_efficiency_cores();
  std::vector<member_place> places;
  for (const base::core* seat : seats(machine, static_cast<std::size_t>(std::max(1, threads)))) {
    member_place place{{}, seat->speed};
    for (const base::core& one : machine.cores)
      if (bind && alike(one, *seat)) place.cpus.insert(place.cpus.end(), one.cpus.begin(), one.cpus.end());
    places.push_back(std::move(place));
  }
  return places;
}

int threads_for(const base::topology& machine, double quota) {
  std::size_t threads = machine.cores.size();
  if (threads > cores_that_leave_one && !machine.shares_cores()) --threads;
  if (quota > 0) threads = std::min(threads, static_cast<std::size_t>(std::min(quota, 1e6)));
  return static_cast<int>(std::max<std::size_t>(1, threads));
}

}  // namespace troupe::kernels
