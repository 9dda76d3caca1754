// The actors of one engine in the order in which they stop, and what an actor's end means. Knows no CAF and no clock.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace troupe::actors {

enum class engine_state { starting, serving, broken, stopping, stopped };

/// One owner. Members of one rank stop together; a rank stops when the one before it is gone.
class lineup {
public:
  struct member {
    std::string name;
    int rank = 0;
    bool alive = true;
  };
  /// What is to be done after an event: at most one of these, and members to stop.
  struct reaction {
    bool failed = false;   ///< an actor ended that was not asked to: everything in flight must fail visibly
    bool stopped = false;  ///< the last one is gone
    std::vector<std::size_t> stop;
  };

  /// Before serving. Ranks may come in any order.
  std::size_t add(std::string name, int rank);
  void serve();
  reaction begin_stop();
  /// A member is gone. Twice for the same one, or an unknown one, is ignored.
  reaction down(std::size_t index);

  engine_state state() const noexcept { return state_; }
  const std::vector<member>& members() const noexcept { return members_; }

private:
  reaction next_rank();

  std::vector<member> members_;
  engine_state state_ = engine_state::starting;
  int rank_ = 0;  // being stopped
};

}  // namespace troupe::actors
