// Times of planning and of ends.
#include "actors/scheduler/step_watch.hpp"

namespace troupe::actors {

void step_watch::planned(lane_kind kind, clock::time_point now) {
  kinds_[static_cast<std::size_t>(kind)].planned.push_back(now);
}

void step_watch::ended(lane_kind kind, clock::time_point now) {
  kind_of_steps& of = kinds_[static_cast<std::size_t>(kind)];
  if (of.planned.empty()) return;
  longest_ = std::max(longest_, now - of.began());
  of.planned.pop_front();
  of.last_ended = now;
}

clock::duration step_watch::limit() const { return std::max(patience_, 10 * longest_); }

std::optional<clock::duration> step_watch::overdue(clock::time_point now) const {
  if (patience_ == clock::duration::zero()) return std::nullopt;
  for (const kind_of_steps& of : kinds_)
    if (!of.planned.empty() && now - of.began() > limit()) return now - of.began();
  return std::nullopt;
}

}  // namespace troupe::actors
