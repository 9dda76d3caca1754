// A leaky sum of waiting, held against what a member is worth.
#include "kernels/cpu/team_width.hpp"

#include <algorithm>
#include <cmath>

namespace troupe::kernels {
namespace {

// Some time slices of a scheduler: less would take one slice for a busy neighbour.
constexpr double window_seconds = 0.03;

/// The share of time lost beyond which one member less is better: a member brings 1/width at most, and less where
/// memory is the bound.
constexpr double bearable(int width) noexcept { return 0.1 + 0.6 / width; }

double seconds(team_width::duration d) noexcept { return std::chrono::duration<double>(d).count(); }

}  // namespace

void team_width::waited(time_point now, duration lost) noexcept {
  lost_ = lost_ * std::exp(-std::max(0.0, seconds(now - last_)) / window_seconds) + std::min(seconds(lost), window_seconds);
  last_ = now;
  if (width_ == 1 || lost_ <= window_seconds * bearable(width_)) return;
  // Wide for only a moment: the neighbour is still there.
  patience_ = now - widened_ < 2 * patience_ ? std::min(2 * patience_, longest) : shortest;
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
