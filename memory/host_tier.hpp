// Copies of KV blocks in host memory: which there are, and which are on their way out to it or back in. Takes places in
// the prefix tree and in the pool of blocks that it is given; knows no sequence and no bytes.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include <troupe/result.hpp>

#include "memory/block_pool.hpp"
#include "memory/prefix_tree.hpp"

namespace troupe::memory {

enum class copy_way : std::uint8_t { out, in };

/// A block of the device and a place in host memory.
struct block_copy {
  std::int32_t block = 0;
  std::int32_t place = 0;
};

/// To be made by whoever moves bytes; then the tier hears of its end.
struct copy_order {
  std::uint64_t number = 0;
  copy_way way = copy_way::out;
  std::vector<block_copy> copies;
};

/// One owner, one thread, which has tree and pool as well. What rests longest is sent out when blocks run short: its
/// node becomes a copy at once, so that nobody reads or evicts the block meanwhile, and the block is free when the
/// order has ended well or not. Orders of one way end in the order in which they were given. A copy is found only while
/// it is at rest: neither on its way nor being brought in. Where there is no place the copies unused for longest give
/// theirs.
class host_tier {
public:
  static constexpr std::size_t most_copies = 32;  ///< of an order out: small, so that the first blocks are free soon
  static constexpr std::size_t most_orders = 2;   ///< out, at once: one is copied, the next one waits

  /// The tree has `places` copies. 0: there is no host memory, and nothing is ever sent.
  host_tier(prefix_tree& tree, block_pool& blocks, std::int32_t places)
      : tree_(tree), blocks_(blocks), places_(places) {}

  /// Gives orders until so many blocks are free or on their way out, all that rest are, or enough are given.
  void send_out(std::int32_t wanted);
  /// Of copies at rest, each above the next, to blocks that the caller has taken and keeps until the end. The order's
  /// number.
  std::uint64_t bring_in(std::span<const std::int32_t> copies, std::span<const std::int32_t> to);
  /// Orders since the last call.
  std::vector<copy_order> take_orders() { return std::exchange(orders_, {}); }

  /// An order out has ended: its blocks are free. What was copied can be found, if it went well, else it is forgotten.
  void went_out(std::uint64_t order, bool well);
  /// An order in has ended. From the first copy on so many are blocks of the tree now, used by it; what failed, or was
  /// forgotten meanwhile, is forgotten.
  std::int32_t came_in(std::uint64_t order, bool well);
  /// `block`, which only the caller uses, was computed anew and takes the place of this copy, which is at rest.
  void replace(std::int32_t copy, std::int32_t block);
  /// forget() of the tree, and every place and every block of what is gone has one user fewer.
  void forget(std::int32_t node);
  /// The block that rests longest is free, and what it held is lost, with all copies that hang from it.
  void drop_oldest() { forget(tree_.oldest(prefix_tree::kind::block)); }

  bool on() const noexcept { return places_.total() > 0; }
  std::int32_t leaving() const noexcept { return leaving_; }
  std::int32_t kept() const noexcept { return tree_.resting(prefix_tree::kind::copy); }
  std::int32_t total() const noexcept { return places_.total(); }

  /// Each place has as many users as there are: a node, an order. Linear.
  result<void> check() const;

private:
  std::int32_t place_of(std::int32_t copy) const noexcept { return copy - blocks_.total(); }
  std::int32_t copy_at(std::int32_t place) const noexcept { return blocks_.total() + place; }
  bool make_place();

  prefix_tree& tree_;
  block_pool& blocks_;
  block_pool places_;
  std::map<std::uint64_t, std::vector<block_copy>> out_, in_;  // under way, by number
  std::vector<copy_order> orders_;
  std::uint64_t next_ = 1;
  std::int32_t leaving_ = 0;
};

}  // namespace troupe::memory
