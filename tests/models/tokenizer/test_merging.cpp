// Merging against the definition done naively, and its cost counted in steps.
#include "support/catch.hpp"

#include <algorithm>
#include <map>
#include <random>

#include "fixtures.hpp"
#include "models/tokenizer/word_merger.hpp"

using namespace troupe::models;

namespace {

using rule = std::pair<uint32_t, int32_t>;  // rank, merged
using rules = std::map<std::pair<int32_t, int32_t>, rule>;

// The definition: again and again, merge the leftmost of the pairs with the least rank.
std::vector<int32_t> merge_naively(const rules& merges, std::vector<int32_t> ids) {
  for (;;) {
    rule best{UINT32_MAX, -1};
    size_t where = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto found = merges.find({ids[i], ids[i + 1]});
      if (found != merges.end() && found->second.first < best.first) best = found->second, where = i;
    }
    if (best.second < 0) return ids;
    ids[where] = best.second;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(where) + 1);
  }
}

merge_table table_of(const rules& merges) {
  merge_table table(merges.size());
  for (const auto& [pair, r] : merges)
    REQUIRE(table.insert(pair.first, pair.second, {r.first, r.second}) == merge_table::insertion::done);
  return table;
}

}  // namespace

TEST_CASE("merging gives what the definition gives, for words short and long") {
  std::mt19937 random(11);
  for (int round = 0; round < 400; ++round) {
    rules merges;
    const int letters = 2 + static_cast<int>(random() % 4);
    int next = letters;
    std::vector<uint32_t> ranks(40);
    for (uint32_t i = 0; i < ranks.size(); ++i) ranks[i] = i;
    std::shuffle(ranks.begin(), ranks.end(), random);  // a merge may come before those it builds on
    for (const uint32_t rank : ranks) {
      const std::pair<int32_t, int32_t> pair(random() % next, random() % next);
      if (merges.try_emplace(pair, rank, next).second) ++next;
    }
    const merge_table table = table_of(merges);
    word_merger merger(table);
    for (const size_t length : {size_t{1}, size_t{2}, size_t{7}, size_t{24}, size_t{25}, size_t{150}}) {
      std::vector<int32_t> symbols(length);
      for (int32_t& s : symbols) s = static_cast<int32_t>(random() % letters);
      const auto expected = merge_naively(merges, symbols);
      std::vector<int32_t> ids;
      merger.merge(symbols, ids);
      CHECK(ids == expected);
    }
  }
}

TEST_CASE("twice the letters cost at most a little over twice the steps") {
  rules doubling;  // aa -> b, bb -> c, ...: every merge makes another possible
  for (int32_t i = 0; i < 20; ++i) doubling[{i, i}] = {static_cast<uint32_t>(i), i + 1};
  rules backwards;  // the same, the last made first in rank
  for (int32_t i = 0; i < 20; ++i) backwards[{i, i}] = {static_cast<uint32_t>(20 - i), i + 1};
  for (const rules& merges : {doubling, backwards}) {
    const merge_table table = table_of(merges);
    const auto steps = [&](size_t length) {
      word_merger merger(table);
      std::vector<int32_t> symbols(length, 0), ids;
      merger.merge(symbols, ids);
      return merger.steps();
    };
    CHECK(steps(65536) < 6 * 65536);
    CHECK(steps(131072) < 2.1 * static_cast<double>(steps(65536)));
  }
}

TEST_CASE("131,072 of one character come back whole, in every family") {
  for (const char* family : {"gpt-2", "smollm", "llama-bpe", "qwen2"}) {
    const auto tokens = testing::default_tokenizer(family);
    NEED_DEFAULT_MODEL(tokens);
    for (const std::string one : {"a", " ", ".", "\n", "日", "\u0301", "7", "\u3000", " \n", "'", "<|", "\xff"}) {
      std::string text;
      for (int i = 0; i < 131072; ++i) text += one;
      const auto ids = tokens->encode(text, true);
      REQUIRE(ids);
      if (one != "\xff") CHECK(testing::decode(*tokens, *ids) == text);
    }
  }
}
