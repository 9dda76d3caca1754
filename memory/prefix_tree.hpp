// Which KV block holds which tokens behind which others: a tree whose nodes are full blocks. Says too which of them
// nobody uses and which of those was used longest ago. Knows no sequence, no counts and no bytes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <troupe/result.hpp>

namespace troupe::memory {

/// One owner, one thread. A node is a block number in [0, blocks); its way from the root spells the tokens that its K and
/// V were computed from, in order. Tokens are compared, never hashed: no two prefixes can be taken for each other, and
/// nobody can make the tree slow by choosing tokens. A node is at rest while nobody uses it. The caller keeps to this:
/// who uses a node uses every node above it. Then what lies under a node at rest rests too, and the order of rest() keeps
/// leaves before what they hang from if a path is laid to rest from its end.
class prefix_tree {
public:
  static constexpr std::int32_t none = -1;  ///< no block; as a parent: the root

  prefix_tree(std::int32_t blocks, std::int32_t block_tokens);

  /// The child of `parent` with exactly these block_tokens tokens, or none. Costs the logarithm of its children.
  std::int32_t find(std::int32_t parent, std::span<const std::int32_t> tokens) const;
  /// The blocks that hold the beginning of `tokens`, from the root on; only whole ones, `most` at most.
  std::vector<std::int32_t> match(std::span<const std::int32_t> tokens, std::int32_t most) const;
  /// A new node, in use. False, and nothing changes: the block is a node already, the parent is none of ours, or it has a
  /// child with these tokens.
  bool insert(std::int32_t parent, std::span<const std::int32_t> tokens, std::int32_t block);

  bool holds(std::int32_t block) const noexcept { return known(block) && nodes_[index(block)].held; }
  /// Nobody uses it now; it will be the last of those at rest to be evicted. Also where it is at rest already.
  void rest(std::int32_t block);
  /// Somebody uses it again.
  void wake(std::int32_t block);
  /// Takes the node out that has been at rest longest, and with it nothing else; none where nothing rests.
  std::int32_t evict();
  /// Takes out the node and all under it, at rest or not; which they were.
  std::vector<std::int32_t> forget(std::int32_t block);

  std::int32_t size() const noexcept { return size_; }
  std::int32_t resting() const noexcept { return resting_; }
  bool rests(std::int32_t block) const noexcept { return holds(block) && nodes_[index(block)].resting; }

  /// Parents and children name each other, children are in order, the list of those at rest is whole and has leaves
  /// before what they hang from, and nothing in use hangs from anything at rest.
  result<void> check() const;

private:
  struct node {
    std::int32_t parent = none;
    std::int32_t older = none, newer = none;  // neighbours in the list of those at rest
    bool held = false, resting = false;
    std::vector<std::int32_t> tokens;
    std::vector<std::int32_t> children;  // in the order of their tokens
  };

  static std::size_t index(std::int32_t block) noexcept { return static_cast<std::size_t>(block); }
  bool known(std::int32_t block) const noexcept { return block >= 0 && index(block) < nodes_.size(); }
  const std::vector<std::int32_t>& children_of(std::int32_t parent) const {
    return parent == none ? roots_ : nodes_[index(parent)].children;
  }
  std::vector<std::int32_t>& children_of(std::int32_t parent) {
    return parent == none ? roots_ : nodes_[index(parent)].children;
  }
  std::size_t place_of(std::int32_t parent, std::span<const std::int32_t> tokens) const;
  bool spells(std::int32_t block, std::span<const std::int32_t> tokens) const;
  void unlink(node& one);
  void drop(std::int32_t block);

  std::int32_t block_tokens_;
  std::vector<node> nodes_;
  std::vector<std::int32_t> roots_;
  std::int32_t oldest_ = none, newest_ = none;
  std::int32_t size_ = 0, resting_ = 0;
};

}  // namespace troupe::memory
