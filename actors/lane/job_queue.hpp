// Where a lane's work is done, one job at a time. Knows no step.
#pragma once

#include <functional>
#include <utility>

#include "actors/lane/lane_kind.hpp"

namespace troupe::actors {

class job_queue {
public:
  using job = std::function<void()>;
  virtual ~job_queue() = default;
  /// From any thread; returns at once. False: stopped, the job will not run. Jobs must not throw.
  virtual bool post(lane_kind kind, job what) = 0;
  /// The same where the order of posting is that of running: on a queue to which nothing else is posted.
  bool post_in_order(job what) { return post(lane_kind::decode, std::move(what)); }
};

}  // namespace troupe::actors
