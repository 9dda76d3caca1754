// A table of hashes for each length of a beginning.
#include "actors/scheduler/awaited_prefixes.hpp"

#include <algorithm>

namespace troupe::actors {

void awaited_prefixes::extend_hashes(std::vector<std::uint64_t>& hashes, const std::vector<std::int32_t>& tokens,
                                     std::int32_t block_tokens) {
  const auto width = static_cast<std::size_t>(block_tokens);
  for (std::size_t block = hashes.size(); (block + 1) * width <= tokens.size(); ++block) {
    std::uint64_t hash = block == 0 ? 0xcbf29ce484222325ull : hashes.back();
    for (std::size_t at = block * width; at < (block + 1) * width; ++at) {
      hash = (hash ^ static_cast<std::uint32_t>(tokens[at])) * 0x9e3779b97f4a7c15ull;
      hash ^= hash >> 32;
    }
    hashes.push_back(hash);
  }
}

void awaited_prefixes::add(const planned_sequence& computing) {
  const std::int32_t blocks = std::max(computing.offered + 1, least_);
  if (static_cast<std::size_t>(blocks) > computing.beginnings.size()) return;
  ++look_ups_;
  by_blocks_[blocks].emplace(computing.beginnings[static_cast<std::size_t>(blocks) - 1], &computing);
}

bool awaited_prefixes::contain_beginning_of(const planned_sequence& waiting) const {
  const std::int32_t most = (waiting.known_rows() - 1) / width_;
  for (const auto& [blocks, table] : by_blocks_) {
    if (blocks > most) return false;
    ++look_ups_;
    const auto at = table.find(waiting.beginnings[static_cast<std::size_t>(blocks) - 1]);
    if (at != table.end() &&
        std::equal(waiting.known->begin(), waiting.known->begin() + blocks * width_, at->second->known->begin()))
      return true;
  }
  return false;
}

}  // namespace troupe::actors
