// Whether a step takes so long that its device must have hung. Knows no plan; time comes in.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <optional>

#include "actors/step_plan.hpp"

namespace troupe::actors {

/// A step is overdue after ten times the longest so far, and never before `patience`. What waits behind another step of
/// its kind is not counted as running. One owner.
class step_watch {
public:
  /// Zero: nothing is ever overdue.
  explicit step_watch(clock::duration patience) : patience_(patience) {}

  void planned(lane_kind kind, clock::time_point now);
  /// The oldest step of this kind.
  void ended(lane_kind kind, clock::time_point now);
  bool running() const { return !kinds_[0].planned.empty() || !kinds_[1].planned.empty(); }
  /// How long a step has taken by now that should have ended.
  std::optional<clock::duration> overdue(clock::time_point now) const;
  clock::duration limit() const;
  clock::duration patience() const { return patience_; }

private:
  struct kind_of_steps {
    std::deque<clock::time_point> planned;
    clock::time_point last_ended{};
    clock::time_point began() const { return std::max(planned.front(), last_ended); }
  };
  clock::duration patience_;
  clock::duration longest_{};
  std::array<kind_of_steps, 2> kinds_;  // by lane_kind
};

}  // namespace troupe::actors
