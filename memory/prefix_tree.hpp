// Which KV block holds which tokens behind which others: a tree whose nodes are full blocks, of two kinds: those that
// sequences read, and copies of such kept elsewhere. Says too which of them nobody uses and which of those was used
// longest ago. Knows no sequence, no counts and no bytes.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include <troupe/result.hpp>

namespace troupe::memory {

/// One owner, one thread. A node is a number: a block in [0, blocks), or from `blocks` on a copy kept elsewhere. Its
/// way from the root spells the tokens that its K and V were computed from, in order. Tokens are compared, never
/// hashed: no two prefixes can be taken for each other, and nobody can make the tree slow by choosing tokens. A node is
/// at rest while nobody uses it. The caller keeps to this: who uses a node uses every node above it. Then what lies
/// under a node at rest rests too, and the order of rest() keeps leaves before what they hang from if a path is laid to
/// rest from its end. Nothing but copies hangs from a copy.
class prefix_tree {
public:
  static constexpr std::int32_t none = -1;  ///< no block; as a parent: the root

  enum class kind : std::uint8_t { block, copy };

  prefix_tree(std::int32_t blocks, std::int32_t block_tokens, std::int32_t copies = 0);

  /// The child of `parent` with exactly these block_tokens tokens, or none. Costs the logarithm of its children.
  std::int32_t find(std::int32_t parent, std::span<const std::int32_t> tokens) const;
  /// The blocks that hold the beginning of `tokens`, from the root on; only whole ones, `most` at most.
  std::vector<std::int32_t> match(std::span<const std::int32_t> tokens, std::int32_t most) const;
  /// A new node, in use. False, and nothing changes: the block is a node already, the parent is none of ours, or it has
  /// a child with these tokens.
  bool insert(std::int32_t parent, std::span<const std::int32_t> tokens, std::int32_t block);

  bool holds(std::int32_t block) const noexcept { return known(block) && nodes_[index(block)].held; }
  /// Nobody uses it now; it will be the last of those at rest to be evicted. Also where it is at rest already.
  void rest(std::int32_t block);
  /// Somebody uses it again.
  void wake(std::int32_t block);
  /// The node that has been at rest longest; of its own kind nothing hangs from it. None where nothing rests.
  std::int32_t oldest(kind of) const noexcept { return lists_[index(of)].oldest; }
  /// `to` takes the place of the node `from`, which is none any more. It is not at rest. False, and nothing changes:
  /// `from` is no node, or `to` is one.
  bool move(std::int32_t from, std::int32_t to);
  /// Takes out the node and all under it, at rest or not; which they were.
  std::vector<std::int32_t> forget(std::int32_t block);

  std::int32_t size() const noexcept { return size_; }
  std::int32_t resting(kind of = kind::block) const noexcept { return lists_[index(of)].size; }
  bool is_copy(std::int32_t node) const noexcept { return node >= blocks_; }
  bool rests(std::int32_t block) const noexcept { return holds(block) && nodes_[index(block)].resting; }

  /// Parents and children name each other, children are in order, the lists of those at rest are whole and have leaves
  /// before what they hang from, no block in use hangs from anything at rest, and none at all from a copy.
  result<void> check() const;

private:
  struct node {
    std::int32_t parent = none;
    std::int32_t older = none, newer = none;  // neighbours in the list of those at rest
    bool held = false, resting = false;
    std::vector<std::int32_t> tokens;
    std::vector<std::int32_t> children;  // in the order of their tokens
  };

  /// Of the nodes of one kind that are at rest.
  struct rest_list {
    std::int32_t oldest = none, newest = none, size = 0;
  };

  static std::size_t index(std::int32_t block) noexcept { return static_cast<std::size_t>(block); }
  static std::size_t index(kind of) noexcept { return static_cast<std::size_t>(of); }
  rest_list& list_of(std::int32_t node) noexcept { return lists_[is_copy(node) ? 1 : 0]; }
  const rest_list& list_of(std::int32_t node) const noexcept { return lists_[is_copy(node) ? 1 : 0]; }
  bool known(std::int32_t block) const noexcept { return block >= 0 && index(block) < nodes_.size(); }
  const std::vector<std::int32_t>& children_of(std::int32_t parent) const {
    return parent == none ? roots_ : nodes_[index(parent)].children;
  }
  std::vector<std::int32_t>& children_of(std::int32_t parent) {
    return parent == none ? roots_ : nodes_[index(parent)].children;
  }
  std::size_t place_of(std::int32_t parent, std::span<const std::int32_t> tokens) const;
  bool spells(std::int32_t block, std::span<const std::int32_t> tokens) const;
  void unlink(std::int32_t block);
  result<void> check_lists(std::vector<std::int32_t>& place) const;
  void drop(std::int32_t block);

  std::int32_t block_tokens_;
  std::int32_t blocks_;
  std::vector<node> nodes_;
  std::vector<std::int32_t> roots_;
  std::array<rest_list, 2> lists_;  // by kind
  std::int32_t size_ = 0;
};

}  // namespace troupe::memory
