// What runs a plan: the real runner, or a scripted one in tests.
#pragma once

#include <optional>

#include "actors/step_plan.hpp"
#include "kernels/step_batch.hpp"

namespace troupe::actors {

/// A step begun. Where `result` is set it is over; else a device computes it: when wait(ticket) has returned, finish()
/// gives its result.
struct begun_step {
  std::optional<step_result> result;
  kernels::step_ticket ticket = 0;
};

/// Used by one thread at a time, but for `wait`.
class step_machine {
public:
  virtual ~step_machine() = default;
  /// Tokens and row counts; the times are the caller's to set. One sequence's failure is a token with `failed`.
  virtual begun_step begin(const step_plan& plan) = 0;
  /// Any thread. `kind` is the plan's.
  virtual void wait(lane_kind, kernels::step_ticket) {}
  /// Of the oldest step of this kind begun and not finished: steps of a kind finish in the order of their beginning,
  /// and where both kinds share a queue, all do.
  virtual step_result finish(lane_kind) { return {}; }
  /// After begin or finish threw: every sequence with work in the plan fails with `why`, and its slot takes no more
  /// work.
  virtual step_result fail(const step_plan& plan, const error& why) = 0;
};

}  // namespace troupe::actors
