// Numbered items of a round that the members of a team take piece by piece: each from its own share first, and then
// from what another has left, so that none waits long for a member whose core is slower. Knows no op.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "kernels/cpu/thread_team.hpp"

namespace troupe::kernels {

/// take() gives each item out once. Its owner takes three quarters of what is left of a share, another half: pieces are
/// few, as memory is slow where one begins.
class shared_items {
public:
  /// For the members of this team; nothing is dealt yet.
  explicit shared_items(const thread_team& team)
      : members_(team.size()), left_(new range[static_cast<std::size_t>(members_)]) {}

  /// [first, last) for member `member`, and so for all of the team; before the round in which they are taken.
  void deal(int member, share items) noexcept { items_of(member).store(packed(items), std::memory_order_relaxed); }
  /// `count` items, to each its share in a round of as many members as the last had; the others take what is left.
  void deal(const thread_team& team, std::int64_t count) noexcept {
    for (int member = 0; member < members_; ++member)
      deal(member, member < team.width() ? team.share_of(count, member, team.width()) : share{});
  }

  /// What member `thread` is to do next; empty: all are taken.
  share take(int thread) noexcept {
    if (const share own = take_from(thread, true); own.first < own.last) return own;
    for (int i = 1; i < members_; ++i)
      if (const share other = take_from((thread + i) % members_, false); other.first < other.last) return other;
    return {};
  }

private:
  struct alignas(64) range {
    std::atomic<std::uint64_t> items{0};
  };

  std::atomic<std::uint64_t>& items_of(int member) noexcept { return left_[static_cast<std::size_t>(member)].items; }
  static std::uint64_t packed(share s) noexcept {
    return static_cast<std::uint64_t>(s.first) << 32 | static_cast<std::uint64_t>(s.last);
  }
  /// The owner takes from the front, others from the back.
  share take_from(int member, bool front) noexcept {
    std::atomic<std::uint64_t>& items = items_of(member);
    std::uint64_t seen = items.load(std::memory_order_relaxed);
    for (;;) {
      const share left{static_cast<std::int64_t>(seen >> 32), static_cast<std::int64_t>(seen & 0xffffffffu)};
      if (left.first >= left.last) return {};
      const std::int64_t all = left.last - left.first, count = front ? (3 * all + 3) / 4 : (all + 1) / 2;
      const share mine = front ? share{left.first, left.first + count} : share{left.last - count, left.last};
      const share rest = front ? share{mine.last, left.last} : share{left.first, mine.first};
      if (items.compare_exchange_weak(seen, packed(rest), std::memory_order_relaxed)) return mine;
    }
  }

  int members_;
  std::unique_ptr<range[]> left_;
};

}  // namespace troupe::kernels
