// How many members of a team take part in a dispatch. A member that shares its core with a busy neighbour makes all
// others wait; a team without it is faster than one that waits. Knows no thread and no clock: times are arguments.
#pragma once

#include <chrono>

namespace troupe::kernels {

/// Waiting is weighed over about the last tenth of a second. Where its share grows beyond what a member brings, the
/// team goes on with one member less, and tries again with one more after a while: soon at first, then ever more rarely
/// as long as its trials, which are short, fail.
class team_width {
public:
  using time_point = std::chrono::steady_clock::time_point;
  using duration = std::chrono::steady_clock::duration;

  explicit team_width(int members) noexcept : members_(members), width_(members) {}

  int width() const noexcept { return width_; }
  bool narrowed() const noexcept { return width_ < members_; }

  /// Members that were ready have waited `lost`, until `now`, for one that was not.
  void waited(time_point now, duration lost) noexcept;
  /// To be called before a dispatch where narrowed(): takes one member back when it is time.
  void widen_if_due(time_point now) noexcept;

private:
  int members_;
  int width_;
  double lost_ = 0;  ///< seconds, fading
  time_point last_{};
  time_point widened_{};
  time_point retry_at_{};
  duration patience_ = shortest;

  static constexpr duration trial = std::chrono::milliseconds(60);
  static constexpr duration shortest = std::chrono::milliseconds(100);
  static constexpr duration longest = std::chrono::milliseconds(1600);
};

}  // namespace troupe::kernels
