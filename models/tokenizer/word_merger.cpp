// Short words, which are nearly all, scan an array that fits the first cache lines; long ones use a heap over a list.
#include "models/tokenizer/word_merger.hpp"

#include <algorithm>
#include <array>
#include <functional>

namespace troupe::models {
namespace {
constexpr size_t short_word = 24;  // up to here a quadratic scan beats the heap
constexpr uint32_t none = UINT32_MAX;
}  // namespace

void word_merger::merge(std::span<int32_t> symbols, std::vector<int32_t>& ids) {
  if (symbols.size() < 2) ids.insert(ids.end(), symbols.begin(), symbols.end());
  else if (symbols.size() <= short_word) merge_short(symbols, ids);
  else merge_long(symbols, ids);
}

void word_merger::merge_short(std::span<int32_t> symbols, std::vector<int32_t>& ids) {
  std::array<pair_merge, short_word> pairs;  // pairs[i]: symbols[i] with symbols[i + 1]
  size_t count = symbols.size();
  for (size_t i = 0; i + 1 < count; ++i) pairs[i] = find(symbols[i], symbols[i + 1]);

  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i)
      if (pairs[i].rank < pairs[best].rank) best = i;
    if (pairs[best].rank == merge_table::never) break;

    symbols[best] = pairs[best].merged;
    std::copy(symbols.begin() + best + 2, symbols.begin() + count, symbols.begin() + best + 1);
    if (best + 2 < count) std::copy(pairs.begin() + best + 1, pairs.begin() + count - 1, pairs.begin() + best);
    --count;
    if (best + 1 < count) pairs[best] = find(symbols[best], symbols[best + 1]);
    if (best > 0) pairs[best - 1] = find(symbols[best - 1], symbols[best]);
  }
  ids.insert(ids.end(), symbols.begin(), symbols.begin() + count);
}

void word_merger::fill_list(std::span<const int32_t> symbols) {
  const auto count = static_cast<uint32_t>(symbols.size());
  list_.resize(count);
  for (uint32_t i = 0; i < count; ++i)
    list_[i] = {symbols[i], i == 0 ? none : i - 1, i + 1 == count ? none : i + 1, {}};

  queue_.clear();
  for (uint32_t i = 0; i + 1 < count; ++i) {
    list_[i].with_next = find(symbols[i], symbols[i + 1]);
    if (list_[i].with_next.rank != merge_table::never)
      queue_.push_back((static_cast<uint64_t>(list_[i].with_next.rank) << 32) | i);
  }
  std::make_heap(queue_.begin(), queue_.end(), std::greater<>{});
}

void word_merger::look_up_pair(uint32_t left) {
  node& n = list_[left];
  n.with_next = n.next == none ? pair_merge{} : find(n.id, list_[n.next].id);
  if (n.with_next.rank == merge_table::never) return;
  queue_.push_back((static_cast<uint64_t>(n.with_next.rank) << 32) | left);
  std::push_heap(queue_.begin(), queue_.end(), std::greater<>{});
}

void word_merger::join(uint32_t left) {
  node& n = list_[left];
  node& gone = list_[n.next];
  n.id = n.with_next.merged;
  n.next = gone.next;
  gone.with_next = {};  // makes the queue's entries for it out of date
  if (n.next != none) list_[n.next].previous = left;
  look_up_pair(left);
  if (n.previous != none) look_up_pair(n.previous);
}

void word_merger::merge_long(std::span<const int32_t> symbols, std::vector<int32_t>& ids) {
  fill_list(symbols);
  while (!queue_.empty()) {
    ++steps_;
    const auto rank = static_cast<uint32_t>(queue_.front() >> 32);
    const auto left = static_cast<uint32_t>(queue_.front());
    std::pop_heap(queue_.begin(), queue_.end(), std::greater<>{});
    queue_.pop_back();
    // A rank names one pair of ids, so an entry is current exactly when its position still has that rank.
    if (list_[left].with_next.rank == rank) join(left);
  }
  for (uint32_t i = 0; i != none; i = list_[i].next) ids.push_back(list_[i].id);
}

}  // namespace troupe::models
