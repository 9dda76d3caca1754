// What runs a plan: the real runner, or a scripted one in tests.
#pragma once

#include "actors/step_plan.hpp"

namespace troupe::actors {

/// Used by one thread at a time.
class step_machine {
public:
  virtual ~step_machine() = default;
  /// Tokens and row counts; the times are the caller's to set. One sequence's failure is a token with `failed`.
  virtual step_result run(const step_plan& plan) = 0;
  /// After run threw: every sequence with work in the plan fails with `why`, and its slot takes no more work.
  virtual step_result fail(const step_plan& plan, const error& why) = 0;
};

}  // namespace troupe::actors
