// Where the members of a team belong on a machine, and how much of the work each gets. Knows no thread.
#pragma once

#include <vector>

#include "base/topology.hpp"

namespace troupe::kernels {

struct member_place {
  std::vector<int> cpus;                ///< logical processors that it may run on; empty: where the kernel likes
  int weight = base::core::full_speed;  ///< of its share of rows
};

/// A place for each of `threads` members. A member is bound to all processors of its kind of core on its memory node,
/// not to one of them: pages that it touches first stay near, and it can still step aside for a busy neighbour. Bound
/// to one core each, two threads were no faster on a quiet machine, and half as fast beside one busy process. Where the
/// machine has one node and one kind of core, nobody is bound. Nodes are filled evenly, and no more of them than the
/// threads need; threads beyond the cores start over.
std::vector<member_place> plan_team(const base::topology& machine, int threads);

/// How many threads a team should have. One a physical core: a second thread on a core finds its vector units busy.
/// Fewer where a cgroup's quota grants fewer (`quota` cores, 0: no limit), rounded down: what exceeds it is stopped in
/// the middle of a step. The runtime's other threads (two for messages, one or two for sockets, all mostly asleep) run
/// on the cores' second processors; where there are none, a machine of more than eight cores leaves them one core, and
/// on a smaller one they take turns with the team, which costs less than a core would.
int threads_for(const base::topology& machine, double quota);

}  // namespace troupe::kernels
