// Rank by rank.
#include "actors/supervisor/lineup.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace troupe::actors {

std::size_t lineup::add(std::string name, int rank) {
  members_.push_back({std::move(name), rank, true});
  return members_.size() - 1;
}

void lineup::serve() {
  if (state_ == engine_state::starting) state_ = engine_state::serving;
}

lineup::reaction lineup::begin_stop() {
  if (state_ == engine_state::stopping || state_ == engine_state::stopped) return {};
  state_ = engine_state::stopping;
  return next_rank();
}

/// The lowest rank with somebody alive.
lineup::reaction lineup::next_rank() {
  reaction what;
  rank_ = std::numeric_limits<int>::max();
  for (const member& one : members_)
    if (one.alive) rank_ = std::min(rank_, one.rank);
  for (std::size_t i = 0; i < members_.size(); ++i)
    if (members_[i].alive && members_[i].rank == rank_) what.stop.push_back(i);
  what.stopped = what.stop.empty();
  if (what.stopped) state_ = engine_state::stopped;
  return what;
}

lineup::reaction lineup::down(std::size_t index) {
  if (index >= members_.size() || !members_[index].alive) return {};
  members_[index].alive = false;
  if (state_ != engine_state::stopping) {
    state_ = engine_state::broken;
    reaction what;
    what.failed = true;
    return what;
  }
  const bool rank_left = std::any_of(members_.begin(), members_.end(),
                                     [this](const member& one) { return one.alive && one.rank <= rank_; });
  return rank_left ? reaction{} : next_rank();
}

}  // namespace troupe::actors
