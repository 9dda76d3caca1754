// A leaky sum of waiting, held against what a member is worth.
#include "kernels/cpu/team_width.hpp"

#include <algorithm>
#include <cmath>

namespace troupe::kernels {
namespace {

// Long enough that a hypervisor's or an interrupt's burst of some milliseconds, or two, does not pass for a neighbour
// that stays: narrowing for 100 ms would cost more than the burst did.
constexpr double usual_window = 0.08;
// While a member is on trial: some time slices of a scheduler.
constexpr double trial_window = 0.03;
// What one wait can count for. Longer ones say that the machine stood still, not that somebody computes on it.
constexpr double most_at_once = 0.012;

/// The share of time lost beyond which one member less is better: a member brings 1/width at most, and less where
/// memory is the bound.
constexpr double bearable(int width) noexcept { return 0.1 + 0.6 / width; }

double seconds(team_width::duration d) noexcept { return std::chrono::duration<double>(d).count(); }

}  // namespace

void team_width::waited(time_point now, duration lost) noexcept {
  const bool on_trial = now - widened_ < trial;
  const double window = on_trial ? trial_window : usual_window;
  lost_ = lost_ * std::exp(-std::max(0.0, seconds(now - last_)) / window) + std::min(seconds(lost), most_at_once);
  last_ = now;
  if (width_ == 1 || lost_ <= window * bearable(width_)) return;
  patience_ = on_trial ? std::min(2 * patience_, longest) : shortest;  // on trial: the neighbour is still there
  --width_;
  lost_ = 0;
  retry_at_ = now + patience_;
}

void team_width::widen_if_due(time_point now) noexcept {
  if (now < retry_at_) return;
  ++width_;
  lost_ = 0;
  last_ = widened_ = now;
  retry_at_ = now + patience_;
}

}  // namespace troupe::kernels
