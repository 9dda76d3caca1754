// The tree against a map from whole prefixes to blocks, and the order in which what rests is evicted.
#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "memory/prefix_tree.hpp"
#include "support/catch.hpp"

using namespace troupe;
using troupe::memory::prefix_tree;

namespace {

using tokens = std::vector<std::int32_t>;

tokens path_of(const std::map<tokens, std::int32_t>& naive, std::int32_t block) {
  for (const auto& [path, held] : naive)
    if (held == block) return path;
  return {};
}

std::int32_t evict(prefix_tree& tree) {
  const std::int32_t oldest = tree.oldest(prefix_tree::kind::block);
  tree.forget(oldest);
  return oldest;
}

bool starts_with(const tokens& whole, const tokens& start) {
  return whole.size() >= start.size() && std::equal(start.begin(), start.end(), whole.begin());
}

}  // namespace

TEST_CASE("a prefix tree finds what a map from whole prefixes finds") {
  constexpr std::int32_t width = 2;
  for (std::uint32_t seed = 1; seed <= 60; ++seed) {
    std::mt19937 random(seed);
    const std::int32_t blocks = 1 + static_cast<std::int32_t>(random() % 30);
    prefix_tree tree(blocks, width);
    std::map<tokens, std::int32_t> naive;
    for (int step = 0; step < 300; ++step) {
      tokens prompt(random() % 9);
      for (auto& token : prompt) token = static_cast<std::int32_t>(random() % 3);
      std::vector<std::int32_t> expected;
      for (std::size_t n = width; n <= prompt.size(); n += width) {
        const auto at = naive.find(tokens(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(n)));
        if (at == naive.end()) break;
        expected.push_back(at->second);
      }
      REQUIRE(tree.match(prompt, 100) == expected);
      REQUIRE(tree.match(prompt, 1).size() == std::min<std::size_t>(expected.size(), 1));
      const std::int32_t block = static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(blocks));
      const std::size_t depth = expected.size() * width;
      if (random() % 5 == 0) {
        const tokens path = path_of(naive, block);
        const std::size_t before = naive.size();
        std::erase_if(naive, [&](const auto& one) { return !path.empty() && starts_with(one.first, path); });
        REQUIRE(tree.forget(block).size() == before - naive.size());
      } else if (depth + width <= prompt.size()) {
        const std::int32_t parent = expected.empty() ? prefix_tree::none : expected.back();
        const bool free = !tree.holds(block);
        REQUIRE(tree.insert(parent, std::span(prompt).subspan(depth, width), block) == free);
        if (free) naive[tokens(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(depth + width))] = block;
      }
      REQUIRE(tree.size() == static_cast<std::int32_t>(naive.size()));
      const auto sound = tree.check();
      INFO((sound.ok() ? "" : sound.why().text));
      REQUIRE(sound.ok());
    }
  }
}

TEST_CASE("what rested longest is evicted first, leaves before what they hang from") {
  prefix_tree tree(8, 1);
  // 0 - 1 - 2 and 0 - 3
  const tokens a{7}, b{8}, c{9};
  REQUIRE(tree.insert(prefix_tree::none, a, 0));
  REQUIRE(tree.insert(0, a, 1));
  REQUIRE(tree.insert(1, a, 2));
  REQUIRE(tree.insert(0, b, 3));
  REQUIRE(evict(tree) == prefix_tree::none);
  tree.rest(3);
  for (const std::int32_t block : {2, 1, 0}) tree.rest(block);
  REQUIRE(tree.check().ok());
  REQUIRE(tree.resting() == 4);
  REQUIRE(evict(tree) == 3);
  for (const std::int32_t block : {0, 1}) tree.wake(block);
  REQUIRE(tree.check().ok());
  REQUIRE(evict(tree) == 2);
  REQUIRE(evict(tree) == prefix_tree::none);
  for (const std::int32_t block : {1, 0}) tree.rest(block);
  REQUIRE(evict(tree) == 1);
  REQUIRE(evict(tree) == 0);
  REQUIRE(tree.size() == 0);
  REQUIRE(tree.insert(prefix_tree::none, c, 0));
}

TEST_CASE("check sees a leaf that would outlive its parent, and a use under one at rest") {
  prefix_tree tree(4, 1);
  const tokens a{7};
  REQUIRE(tree.insert(prefix_tree::none, a, 0));
  REQUIRE(tree.insert(0, a, 1));
  tree.rest(0);
  REQUIRE_FALSE(tree.check().ok());
  tree.rest(1);
  REQUIRE_FALSE(tree.check().ok());
  tree.rest(0);
  REQUIRE(tree.check().ok());
}

TEST_CASE("a node is refused where its block is one already, its parent is none, its tokens are known or too few") {
  prefix_tree tree(4, 2);
  const tokens a{1, 2}, b{1, 3}, few{1};
  REQUIRE(tree.insert(prefix_tree::none, a, 0));
  REQUIRE_FALSE(tree.insert(prefix_tree::none, b, 0));
  REQUIRE_FALSE(tree.insert(3, b, 1));
  REQUIRE_FALSE(tree.insert(prefix_tree::none, a, 1));
  REQUIRE_FALSE(tree.insert(prefix_tree::none, few, 1));
  REQUIRE_FALSE(tree.insert(prefix_tree::none, b, 4));
  REQUIRE(tree.size() == 1);
}

TEST_CASE("a node that moves keeps its place, its children and its tokens, and copies rest apart from blocks") {
  prefix_tree tree(4, 1, 2);
  const tokens a{7}, b{8};
  REQUIRE(tree.insert(prefix_tree::none, a, 0));
  REQUIRE(tree.insert(0, a, 1));
  REQUIRE(tree.insert(0, b, 2));
  for (const std::int32_t block : {2, 1, 0}) tree.rest(block);
  REQUIRE(tree.move(1, 4));
  REQUIRE_FALSE(tree.move(1, 5));
  REQUIRE_FALSE(tree.move(0, 2));
  REQUIRE(tree.check().ok());
  REQUIRE(tree.match(tokens{7, 7}, 2) == std::vector<std::int32_t>{0, 4});
  REQUIRE(tree.resting() == 2);
  REQUIRE(tree.resting(prefix_tree::kind::copy) == 0);
  tree.rest(4);
  REQUIRE(tree.oldest(prefix_tree::kind::copy) == 4);
  REQUIRE(tree.oldest(prefix_tree::kind::block) == 2);
  REQUIRE(tree.move(2, 5));
  REQUIRE(tree.move(0, 1));
  tree.rest(1);
  REQUIRE(tree.check().ok());
  REQUIRE(tree.size() == 3);
  REQUIRE(tree.forget(1).size() == 3);
  REQUIRE(tree.size() == 0);
  REQUIRE(tree.resting(prefix_tree::kind::copy) == 0);
}

TEST_CASE("check sees a block under a copy") {
  prefix_tree tree(4, 1, 2);
  const tokens a{7};
  REQUIRE(tree.insert(prefix_tree::none, a, 0));
  REQUIRE(tree.insert(0, a, 1));
  REQUIRE(tree.move(0, 4));
  REQUIRE_FALSE(tree.check().ok());
}
