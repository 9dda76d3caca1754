// Counts and the free list of KV blocks. Knows no sequence.
#include "memory/block_pool.hpp"

#include <algorithm>
#include <string>

namespace troupe::memory {
namespace {

error broken(const std::string& what) { return {errc::internal, "block pool: " + what, {}}; }

}  // namespace

block_pool::block_pool(std::int32_t blocks) : counts_(index(std::max(blocks, 0)), 0) {
  free_.reserve(counts_.size());
  for (std::int32_t block = total() - 1; block >= 0; --block) free_.push_back(block);
}

std::optional<std::int32_t> block_pool::take() {
  if (free_.empty()) return std::nullopt;
  const std::int32_t block = free_.back();
  free_.pop_back();
  counts_[index(block)] = 1;
  return block;
}

bool block_pool::share(std::int32_t block) {
  if (count(block) == 0) return false;
  ++counts_[index(block)];
  return true;
}

bool block_pool::release(std::int32_t block) {
  if (count(block) == 0 || --counts_[index(block)] != 0) return false;
  free_.push_back(block);
  return true;
}

result<void> block_pool::check() const {
  std::vector<bool> listed(counts_.size(), false);
  for (const std::int32_t block : free_) {
    if (!known(block)) return broken("the free list holds " + std::to_string(block));
    if (listed[index(block)]) return broken("block " + std::to_string(block) + " is listed free twice");
    if (counts_[index(block)] != 0) return broken("block " + std::to_string(block) + " is free and in use");
    listed[index(block)] = true;
  }
  for (std::int32_t block = 0; block < total(); ++block) {
    if (counts_[index(block)] < 0) return broken("block " + std::to_string(block) + " has a negative count");
    if (counts_[index(block)] == 0 && !listed[index(block)]) {
      return broken("block " + std::to_string(block) + " is lost: no users and not free");
    }
  }
  return {};
}

}  // namespace troupe::memory
