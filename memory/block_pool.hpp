// Who uses which KV block: a fixed number of blocks, a count of users for each, a list of the free ones.
// Knows no sequence, no device and no bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <troupe/result.hpp>

namespace troupe::memory {

/// One owner, one thread. All calls take constant time but check(). A number outside [0, total()) or a count moved
/// on a free block is refused (share and release return false) and changes nothing.
class block_pool {
public:
  explicit block_pool(std::int32_t blocks);

  /// A free block, now with one user; the one freed last comes first, as its bytes are likeliest in cache.
  std::optional<std::int32_t> take();
  /// One more user of a block in use.
  bool share(std::int32_t block);
  /// One user fewer; true when this was the last and the block is free again.
  bool release(std::int32_t block);

  std::int32_t free() const noexcept { return static_cast<std::int32_t>(free_.size()); }
  std::int32_t total() const noexcept { return static_cast<std::int32_t>(counts_.size()); }
  std::int32_t count(std::int32_t block) const noexcept { return known(block) ? counts_[index(block)] : 0; }

  /// Every block is either in use or listed free exactly once. Linear in total().
  result<void> check() const;

private:
  static std::size_t index(std::int32_t block) noexcept { return static_cast<std::size_t>(block); }
  bool known(std::int32_t block) const noexcept { return block >= 0 && block < total(); }

  std::vector<std::int32_t> counts_;
  std::vector<std::int32_t> free_;
};

}  // namespace troupe::memory
