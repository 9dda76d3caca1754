// Shared KV blocks against a naive model: a map from whole prefixes to the time they were used last and who reads them.
#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "actors/kv_store/kv_store.hpp"
#include "support/catch.hpp"

using namespace troupe;
using namespace troupe::actors;

namespace {

constexpr std::int32_t width = 2;
using tokens = std::vector<std::int32_t>;

tokens start_of(const tokens& all, std::size_t blocks) {
  return {all.begin(), all.begin() + static_cast<std::ptrdiff_t>(blocks * width)};
}

std::shared_ptr<const tokens> shared(tokens all) { return std::make_shared<const tokens>(std::move(all)); }

/// What a store of this many blocks has to do, in the plainest way. Keys are whole prefixes of full blocks.
struct naive_store {
  struct entry {
    std::int32_t block = 0;
    std::uint64_t used = 0;  // at rest since, if nobody reads it
    std::set<generation_id> readers;
  };
  struct holder {
    std::shared_ptr<const tokens> all;
    std::vector<std::int32_t> blocks;
    std::size_t offered = 0;
    bool lost = false;  // a failure took what it had offered: no more is offered before its end
  };

  std::int32_t total = 0;
  std::int32_t kept = 0;  // at rest, or as many blocks as the longest had
  std::map<tokens, entry> tree;
  std::map<generation_id, holder> held;
  std::uint64_t now = 0;

  std::int32_t resting() const {
    return static_cast<std::int32_t>(
        std::count_if(tree.begin(), tree.end(), [](const auto& one) { return one.second.readers.empty(); }));
  }
  std::int32_t in_use() const {
    std::set<std::int32_t> all;
    for (const auto& [id, one] : held) all.insert(one.blocks.begin(), one.blocks.end());
    return static_cast<std::int32_t>(all.size());
  }
  std::vector<std::int32_t> found(const tokens& all) const {
    std::vector<std::int32_t> blocks;
    for (std::size_t n = 1; n * width < all.size(); ++n) {
      const auto at = tree.find(start_of(all, n));
      if (at == tree.end()) break;
      blocks.push_back(at->second.block);
    }
    return blocks;
  }
  bool others_hold(std::int32_t block) const {  // though it was forgotten
    return std::any_of(held.begin(), held.end(), [block](const auto& one) {
      return std::find(one.second.blocks.begin(), one.second.blocks.end(), block) != one.second.blocks.end();
    });
  }
  void evict() {
    auto oldest = tree.end();
    for (auto at = tree.begin(); at != tree.end(); ++at)
      if (at->second.readers.empty() && (oldest == tree.end() || at->second.used < oldest->second.used)) oldest = at;
    tree.erase(oldest);
  }
  void trim(std::size_t ended) {
    kept = std::max(kept, static_cast<std::int32_t>(ended));
    while (resting() > kept) evict();
  }
  bool can_serve(const tokens& all, std::int32_t blocks) const {
    std::int32_t taken = blocks;
    for (std::size_t n = 1; n <= found(all).size(); ++n) taken -= tree.at(start_of(all, n)).readers.empty() ? 0 : 1;
    return taken <= total - in_use();
  }
  void serve(generation_id id, std::shared_ptr<const tokens> all, const block_grant& grant) {
    const std::size_t shared_blocks = found(*all).size();
    const std::int32_t free = total - in_use() - resting();
    for (std::size_t n = 1; n <= shared_blocks; ++n) tree.at(start_of(*all, n)).readers.insert(id);
    const auto fresh = static_cast<std::int32_t>(grant.blocks.size() - shared_blocks);
    for (std::int32_t i = free; i < fresh; ++i) evict();
    held[id] = {std::move(all), grant.blocks, shared_blocks, false};
  }
  void offer(generation_id id, std::size_t full) {
    holder& one = held.at(id);
    for (; !one.lost && one.offered < full; ++one.offered) {
      if (tree.contains(start_of(*one.all, one.offered + 1))) return;
      tree[start_of(*one.all, one.offered + 1)] = {one.blocks[one.offered], 0, {id}};
    }
  }
  void release(generation_id id, std::size_t full) {
    const holder one = held.at(id);
    held.erase(id);
    for (auto& [prefix, node] : tree)
      if (node.readers.erase(id) > 0) node.used = now + 1000 - prefix.size();
    now += 1000;
    for (std::size_t n = 1; n <= full; ++n) {
      if (!tree.contains(start_of(*one.all, n)) && others_hold(one.blocks[n - 1])) break;
      entry& node = tree.try_emplace(start_of(*one.all, n), entry{one.blocks[n - 1], 0, {}}).first->second;
      if (node.readers.empty()) node.used = now + 1000 - n;
    }
    now += 1000;
    trim(one.blocks.size());
  }
  void spoil(generation_id id) {
    const std::vector<std::int32_t> blocks = held.at(id).blocks;
    held.erase(id);
    std::vector<tokens> gone;
    for (const auto& [prefix, node] : tree)
      if (std::find(blocks.begin(), blocks.end(), node.block) != blocks.end()) gone.push_back(prefix);
    for (auto& [other, one] : held)
      for (const tokens& prefix : gone)
        if (one.offered * width >= prefix.size() && std::equal(prefix.begin(), prefix.end(), one.all->begin()))
          one.lost = true;
    std::erase_if(tree, [&](const auto& one) {
      return std::any_of(gone.begin(), gone.end(), [&](const tokens& prefix) {
        return one.first.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), one.first.begin());
      });
    });
    trim(blocks.size());
  }
};

}  // namespace

TEST_CASE("admits, ends, failures and evictions at random find what a map from whole prefixes finds") {
  std::int64_t cached = 0;
  for (std::uint32_t seed = 1; seed <= 150; ++seed) {
    std::mt19937 random(seed);
    const auto up_to = [&random](std::uint32_t n) { return static_cast<std::int32_t>(random() % n); };
    naive_store naive;
    naive.total = 3 + up_to(20);
    naive.kept = seed % 2 == 0 ? naive.total : up_to(6);
    kv_store store(naive.total, width, naive.kept);
    generation_id next = 1;
    for (int step = 0; step < 300; ++step) {
      const std::string before = store.draw();
      CAPTURE(seed, step, before);
      const auto some = [&] {
        return std::next(naive.held.begin(), up_to(static_cast<std::uint32_t>(naive.held.size())));
      };
      if (naive.held.empty() || up_to(3) == 0) {
        tokens all(static_cast<std::size_t>(1 + up_to(12)));
        for (auto& token : all) token = up_to(2);
        const auto prompt = shared(std::move(all));
        const auto blocks = static_cast<std::int32_t>(prompt->size()) / width + 1;
        const auto found = naive.found(*prompt);
        const bool fits = naive.can_serve(*prompt, blocks);
        const auto grant = store.reserve({{next, blocks, 0, prompt}}).at(0);
        REQUIRE(static_cast<std::int32_t>(grant.blocks.size()) == (fits ? blocks : 0));
        if (fits) {
          REQUIRE(grant.cached == static_cast<std::int32_t>(found.size()) * width);
          REQUIRE(std::equal(found.begin(), found.end(), grant.blocks.begin()));
          cached += grant.cached;
          naive.serve(next++, prompt, grant);
        }
      } else if (const auto one = some(); up_to(2) == 0) {
        const auto full =
            static_cast<std::size_t>(up_to(static_cast<std::uint32_t>(one->second.all->size() / width + 1)));
        const auto rows = static_cast<std::int32_t>(full) * width + (full * width < one->second.all->size() ? 1 : 0);
        store.offer({one->first, one->second.all, rows});
        naive.offer(one->first, full);
      } else {
        const generation_id id = one->first;
        const auto all = one->second.all;
        const bool spoiled = up_to(8) == 0;
        // Rows that were found computed or offered are computed.
        const auto full = std::max(
            one->second.offered, static_cast<std::size_t>(up_to(static_cast<std::uint32_t>(all->size() / width + 1))));
        store.release({{id, all, static_cast<std::int32_t>(full) * width}, spoiled});
        spoiled ? naive.spoil(id) : naive.release(id, full);
      }
      INFO(store.draw());
      const auto sound = store.check();
      INFO((sound.ok() ? "" : sound.why().text));
      REQUIRE(sound.ok());
      REQUIRE(store.cached() == naive.resting());
      REQUIRE(store.free() == naive.total - naive.in_use());
    }
    while (!naive.held.empty()) {
      store.release({{naive.held.begin()->first}, false});
      naive.held.erase(naive.held.begin());
    }
    REQUIRE(store.free() == store.total());
  }
  REQUIRE(cached > 5000);
}

TEST_CASE("a second sequence shares the full blocks that the first has offered, and always computes its last token") {
  kv_store store(20, 4);
  const auto prompt = shared({1, 2, 3, 4, 5, 6, 7, 8, 9});
  const auto first = store.reserve({{1, 3, 0, prompt}}).at(0);
  REQUIRE(first.cached == 0);
  REQUIRE(store.reserve({{2, 3, 0, prompt}}).at(0).cached == 0);  // nothing of it is computed yet
  store.release({{2}, false});
  store.offer({1, prompt, 7});
  const auto half = store.reserve({{3, 3, 0, prompt}}).at(0);
  REQUIRE(half.cached == 4);
  REQUIRE(half.blocks[0] == first.blocks[0]);
  store.offer({1, prompt, 9});
  const auto whole = store.reserve({{4, 3, 0, prompt}}).at(0);
  REQUIRE(whole.cached == 8);
  REQUIRE(whole.blocks[1] == first.blocks[1]);
  REQUIRE(whole.blocks[2] != first.blocks[2]);
  REQUIRE(store.reserve({{5, 3, 0, shared({1, 2, 3, 4, 5, 6, 7, 8})}}).at(0).cached == 4);
  REQUIRE(store.reserve({{6, 3, 0, shared({1, 2, 3, 4, 5, 6, 0, 8, 9})}}).at(0).cached == 4);
  REQUIRE(store.check().ok());
}

TEST_CASE("what nobody reads counts as free and is evicted only when blocks run out, the oldest first") {
  kv_store store(4, 1);
  const auto one = shared({1, 2}), other = shared({7, 8});
  store.reserve({{1, 2, 0, one}});
  store.release({{1, one, 2}, false});
  store.reserve({{2, 2, 0, other}});
  store.release({{2, other, 2}, false});
  REQUIRE(store.free() == 4);
  REQUIRE(store.cached() == 4);
  REQUIRE(store.reserve({{3, 1}}).at(0).blocks.size() == 1);  // the end of the oldest goes
  REQUIRE(store.cached() == 3);
  REQUIRE(store.reserve({{4, 3, 0, shared({7, 8, 9})}}).at(0).cached == 2);
  REQUIRE(store.free() == 0);
  REQUIRE(store.reserve({{5, 1, 0, one}}).at(0).blocks.empty());
  REQUIRE(store.check().ok());
}

TEST_CASE(
    "no more rests than was allowed, or than the longest sequence had, and what is freed is used before what was never "
    "touched") {
  kv_store store(1000, 1, 4);
  std::int32_t highest = 0;
  for (std::int32_t round = 0; round < 50; ++round) {
    const auto prompt = shared({round, 1, 2});
    const auto id = static_cast<generation_id>(round) + 1;
    const auto grant = store.reserve({{id, 3, 0, prompt}}).at(0);
    highest = std::max(highest, *std::max_element(grant.blocks.begin(), grant.blocks.end()));
    store.release({{id, prompt, 3}, false});
    REQUIRE(store.cached() <= 4);
    REQUIRE(store.free() == 1000);
  }
  REQUIRE(highest < 4 + 3);
  tokens all(20);
  std::iota(all.begin(), all.end(), 100);
  const auto conversation = shared(std::move(all));
  store.reserve({{99, 20, 0, conversation}});
  store.release({{99, conversation, 20}, false});
  REQUIRE(store.cached() == 20);
  REQUIRE(store.reserve({{100, 20, 0, conversation}}).at(0).cached == 19);  // it goes on where it was
  REQUIRE(store.check().ok());
}

TEST_CASE("a need that finds its blocks at rest leaves as much spare as one that finds none") {
  kv_store store(3, 1);
  const auto prompt = shared({1, 2});
  store.reserve({{1, 2, 0, prompt}});
  store.release({{1, prompt, 2}, false});
  REQUIRE(store.reserve({{2, 2, 2, prompt}}).at(0).blocks.empty());
  const auto grant = store.reserve({{2, 2, 1, prompt}}).at(0);
  REQUIRE(grant.cached == 1);
  REQUIRE(store.free() == 1);
}

TEST_CASE("a sequence that failed takes everything with it that hangs from its blocks") {
  kv_store store(8, 1);
  const auto prompt = shared({1, 2, 3});
  store.reserve({{1, 3, 0, prompt}});
  store.offer({1, prompt, 3});
  REQUIRE(store.reserve({{2, 3, 0, prompt}}).at(0).cached == 2);
  store.release({{1, prompt, 3}, true});
  REQUIRE(store.check().ok());
  REQUIRE(store.reserve({{3, 3, 0, prompt}}).at(0).cached == 0);
  store.release({{2, prompt, 3}, false});  // it went on and was well
  REQUIRE(store.reserve({{4, 3, 0, prompt}}).at(0).cached == 2);
  REQUIRE(store.check().ok());
}
