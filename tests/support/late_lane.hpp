// A lane whose steps end late, as a device's do, on top of any lane: for what keeps two steps in flight. Knows no
// device.
#pragma once

#include <array>
#include <deque>
#include <utility>
#include <vector>

#include "support/forwarding_lane.hpp"

namespace troupe::test {

/// Tokens are sampled at once but told at end_step, and ids that stand for a slot's last token are looked up here. Up
/// to 8 slots.
class late_lane final : public forwarding_lane {
public:
  using forwarding_lane::forwarding_lane;
  result<kernels::step_ticket> begin_step(kernels::step_space*, const kernels::step_batch& batch,
                                          const kernels::step_ops& ops) override {
    if (lost) return error{errc::internal, "the device is gone", {}};
    std::vector<std::int32_t> ids(batch.ids.begin(), batch.ids.end());
    for (auto& id : ids)
      if (id < 0) ++looked_up, id = last_[static_cast<std::size_t>(-1 - id)];
    waiting_.push_back({std::vector<kernels::sampled>(batch.picks.size()), batch.picks});
    ops({ids, batch.sequences, batch.sample_rows, batch.sampling, batch.sample_slots, waiting_.back().chosen});
    for (std::size_t i = 0; i < batch.picks.size(); ++i)
      last_[static_cast<std::size_t>(batch.sample_slots[i])] = waiting_.back().chosen[i].id;
    ++steps;
    for (const auto& row : batch.sampling) counters.push_back(row.counter), seen.push_back(row.seen.size());
    return begun_++;
  }
  result<void> end_step() override {
    auto& oldest = waiting_.front();
    std::move(oldest.chosen.begin(), oldest.chosen.end(), oldest.to.begin());
    waiting_.pop_front();
    return {};
  }
  std::int32_t steps_in_flight() const override { return 2; }

  int looked_up = 0;
  int steps = 0;
  bool lost = false;
  std::vector<std::uint64_t> counters;
  std::vector<std::size_t> seen;

private:
  struct late_picks {
    std::vector<kernels::sampled> chosen;
    std::span<kernels::sampled> to;
  };
  std::deque<late_picks> waiting_;
  std::array<std::int32_t, 8> last_{};
  kernels::step_ticket begun_ = 0;
};

}  // namespace troupe::test
