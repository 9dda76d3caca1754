// Fills what was left open from the machine. Knows no command line and no engine.
#include "kernels/cpu/lane_choice.hpp"

#include "base/machine.hpp"
#include "base/topology.hpp"

namespace troupe::kernels {

int default_threads() { return threads_for(base::read_topology(), base::read_cpu_limits().quota); }

result<cpu_lane_options> choose_lane(const lane_wish& wish) {
  const base::topology machine = base::read_topology();
  cpu_lane_options options;
  options.threads = wish.threads > 0 ? wish.threads : threads_for(machine, base::read_cpu_limits().quota);
  options.repack = wish.repack;
  if (!wish.kv_type.empty()) {
    const auto type = parse_kv_type(wish.kv_type);
    if (!type)
      return error{errc::invalid_argument,
                   "There is no KV type '" + wish.kv_type + "'; the CPU has " + kv_type_names() + ".", "kv_type"};
    options.kv = *type;
  }
  // The pages of a mapped copy lie where they happen to; packed anew, each node has those that its threads read.
  if (machine.nodes() == 1) options.copies = wish.copies;
  if (wish.isa.empty()) {
    options.costs = wish.copies;
    return options;
  }
  const auto which = parse_isa(wish.isa);
  if (!which) return error{errc::invalid_argument, "There is no instruction set named '" + wish.isa + "'.", "isa"};
  options.which = *which;
  return options;
}

}  // namespace troupe::kernels
