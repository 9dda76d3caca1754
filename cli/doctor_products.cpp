// Prints costs.
#include "cli/doctor_products.hpp"

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "cli/engine.hpp"
#include "cli/options.hpp"
#include "kernels/cpu/kept_costs.hpp"
#include "kernels/cpu/lane_choice.hpp"
#include "kernels/cpu/packed_tiles.hpp"
#include "kernels/cpu/way_meter.hpp"

namespace troupe::cli {
namespace {

using kernels::way_cost;
using memory::dtype;

constexpr dtype common_types[] = {dtype::q8_0, dtype::q4_0, dtype::q4_1, dtype::q4_k, dtype::q6_k, dtype::bf16};
constexpr std::int32_t shown_rows[] = {1, 8, 24, 64};  // of costed_rows

/// The rate of reading for one row, of computing for more.
std::string rate(const way_cost& cost, const kernels::machine_limits& limits) {
  char text[64];
  const double seconds = static_cast<double>(cost.nanoseconds) * 1e-9, weights = 1 << 20;
  if (cost.rows == 1) {
    const double bytes =
        weights * static_cast<double>(kernels::tile_bytes(cost.type, 256)) / (256 * kernels::tile_rows);
    std::snprintf(text, sizeof text, "%.0f GB/s", bytes / seconds / 1e9);
  } else {
    const double limit = kernels::is_quantised(cost.type) ? limits.int8_ops_per_second : limits.float_ops_per_second;
    std::snprintf(text, sizeof text, "%.0f %%", 100 * 2 * weights * cost.rows / seconds / limit);
  }
  return text;
}

std::string shown(kernels::product_way way, dtype type, std::int32_t rows, const std::vector<way_cost>& costs,
                  const kernels::machine_limits& limits) {
  std::string text = std::string(to_string(way.set)) + "/" + std::to_string(way.together);
  for (const way_cost& one : costs)
    if (one.type == type && one.rows == rows && one.way == way) text += " " + rate(one, limits);
  return text;
}

}  // namespace

void show_products(const kernels::machine_limits& limits, bool anew) {
  const auto usable = kernels::usable_sets(kernels::best_isa());
  if (kernels::ways_for(dtype::q8_0, kernels::costed_rows.back(), usable).size() < 2) {
    std::printf("  with %s: there is nothing to choose\n", std::string(to_string(kernels::best_isa())).c_str());
    return;
  }
  const memory::copy_folder folder = copies_of({});
  kernels::thread_team team(kernels::default_threads());
  const auto machine = kernels::fingerprint(team.size(), usable);
  const auto meter = [&](dtype type) { return kernels::measure_ways(team, type, usable); };
  std::vector<dtype> types(std::begin(common_types), std::end(common_types));
  for (const way_cost& one : kernels::costs_for({}, machine, folder, meter).costs)
    if (std::find(types.begin(), types.end(), one.type) == types.end()) types.push_back(one.type);
  const auto known = kernels::costs_for(types, machine, folder, meter, anew);
  const kernels::product_ways ways(usable.back(), known.costs, usable);

  const std::string path = kernels::costs_path(folder, machine);
  if (known.costs.empty()) std::printf("  not measured: this machine is too busy now\n");
  else std::printf("  %s %s\n", known.measured ? "measured now, kept in" : "measured before, read from", path.c_str());
  std::printf("  %-12s", "weights");
  for (const char* heading : {"1 row", "8 rows", "24 rows", "64 rows and more"}) std::printf(" %-22s", heading);
  std::printf("\n");
  for (const dtype type : types) {
    std::printf("  %-12s", std::string(memory::info(type).name).c_str());
    for (const std::int32_t rows : shown_rows)
      std::printf(" %-22s", shown(ways.way(type, rows), type, rows, known.costs, limits).c_str());
    std::printf("\n");
  }
  std::printf(
      "  Set of kernels / rows at once; bytes read from the caches, then the share of the team's limit. A type "
      "without\n"
      "  figures takes the usual ways: the machine was too busy to measure it.\n");
}

}  // namespace troupe::cli
