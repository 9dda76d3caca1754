// Which sequence holds which KV blocks, and which computed blocks others may read, within a fixed budget. Knows no
// device and no plan; of tokens, only whether they are equal.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "actors/kv_store/block_grant.hpp"
#include "memory/block_pool.hpp"
#include "memory/host_tier.hpp"
#include "memory/prefix_tree.hpp"

namespace troupe::actors {

/// One owner, one thread. A sequence's blocks are in the order of its tokens. Full blocks whose rows a finished step
/// has computed are in the prefix tree, which is a user of them like a sequence. A sequence that begins with the same
/// tokens gets them as its first blocks, and never writes there: its own rows begin behind them. What is in the tree
/// and no sequence holds leaves when blocks are needed and none is free, and counts as free before. No more than `kept`
/// blocks rest there, or as many as the longest sequence had: what is freed is used again before what was never
/// touched, so that memory grows no further than what ran at once and that.
///
/// With host blocks it leaves by a copy to host memory, a few blocks ahead of need, and who needs more waits for the
/// end of such copies. A sequence whose beginning was copied there gets its blocks when that is copied back.
class kv_store {
public:
  explicit kv_store(std::int32_t blocks, std::int32_t block_tokens = 16,
                    std::int32_t kept = std::numeric_limits<std::int32_t>::max(), std::int32_t host_blocks = 0);
  kv_store(const kv_store&) = delete;
  kv_store& operator=(const kv_store&) = delete;

  /// In order; each sequence gets all it asks for, or nothing. A need below one block is refused. At least the last of
  /// the tokens is left to be computed.
  std::vector<block_grant> reserve(const std::vector<block_need>& needs);
  /// Full blocks among the rows can be found from now on. What another sequence computed too stays that one's.
  void offer(const computed_rows& what);
  /// Gives back every block of the sequence; how many more free() counts. Those with computed rows stay findable, also
  /// behind blocks that were found to be another's. What was promised to it is no more. Unknown: 0.
  std::int32_t release(const block_release& what);

  /// Copies to be made, since the last call. No block of theirs is anybody's before copied() says that they have ended.
  std::vector<memory::copy_order> take_orders() { return tier_.take_orders(); }
  /// Orders of one way end in the order in which they were given. Not `well`: what they copied is to be computed again.
  void copied(const memory::copy_order& order, bool well);
  /// Grants that were promised, since the last call; an empty one: ask again.
  std::vector<block_grant> take_late() { return std::exchange(late_, {}); }

  /// Blocks that a need can get, now or when copies have ended: all that no sequence holds.
  std::int32_t free() const noexcept { return total() - in_use_; }
  std::int32_t cached() const noexcept { return tree_.resting(); }
  std::int32_t total() const noexcept { return pool_.total(); }
  std::int32_t cached_on_host() const noexcept { return tier_.kept(); }
  std::size_t sequences() const noexcept { return held_.size(); }

  /// Every block has exactly as many users as there are lists it is in, the tree counted as one; those that rest in the
  /// tree are those that nobody else uses; in use + cached + on their way + free is all. Linear.
  result<void> check() const;
  /// One line per sequence and one of totals: what a failing test prints first.
  std::string draw() const;

private:
  struct holding {
    std::vector<std::int32_t> blocks;
    std::int32_t offered = 0;  // of them are in the tree
  };
  /// What is copied back for a sequence, which holds its blocks; or held them, and they are given back at the end.
  struct restore {
    generation_id id = 0;
    holding of;  // once released
    bool released = false;
  };
  /// What of a need is there.
  struct found_blocks {
    std::vector<std::int32_t> blocks, copies;
    std::int32_t woken = 0;  // of the blocks rest
  };
  struct waiting_need {
    block_need need;
    std::int32_t fresh = 0;  // blocks that are to be free for it
  };
  enum class answer : std::uint8_t { granted, refused, wait, restoring };

  // block_moves.cpp
  found_blocks find(const block_need& need);
  answer serve(const block_need& need, block_grant& grant);
  void hold(const block_need& need, const found_blocks& found, block_grant& grant);
  void make_room();
  void serve_waiting();
  bool withdraw(generation_id id);
  // kv_store.cpp
  bool adopt(std::int32_t copy, std::int32_t block);
  std::int32_t full_blocks(const computed_rows& what, const holding& of) const;
  std::span<const std::int32_t> tokens_of(const computed_rows& what, std::int32_t block) const;
  std::vector<std::int32_t> keep(const computed_rows& what, const holding& of);
  void spoil(const holding& of);
  void give_back(const holding& of, const block_release& what);
  void use(std::int32_t block) { in_use_ += users_[static_cast<std::size_t>(block)]++ == 0 ? 1 : 0; }
  void unuse(const holding& of);

  std::int32_t block_tokens_;
  std::int32_t kept_;
  std::int32_t longest_ = 0;
  memory::block_pool pool_;
  memory::prefix_tree tree_;
  memory::host_tier tier_;
  std::unordered_map<generation_id, holding> held_;
  std::unordered_map<std::uint64_t, restore> restores_;  // by the order's number
  std::deque<waiting_need> waiting_;                     // for blocks on their way out
  std::vector<block_grant> late_;
  std::vector<std::int32_t> users_;  // sequences, of each block
  std::int32_t in_use_ = 0;          // blocks with users
};

}  // namespace troupe::actors
