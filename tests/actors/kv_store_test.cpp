// Blocks against a naive model: sets of numbers.
#include <map>
#include <random>
#include <set>

#include "actors/kv_store/kv_budget.hpp"
#include "actors/kv_store/kv_store.hpp"
#include "support/catch.hpp"

using namespace troupe;
using namespace troupe::actors;

TEST_CASE("random reservations and releases agree with sets of numbers") {
  for (std::uint32_t seed = 1; seed <= 50; ++seed) {
    std::mt19937 random(seed);
    const auto total = static_cast<std::int32_t>(1 + random() % 40);
    kv_store store(total);
    std::map<generation_id, std::vector<std::int32_t>> naive;
    std::int32_t used = 0;
    for (int step = 0; step < 300; ++step) {
      const generation_id id = random() % 8;
      if (random() % 3 == 0) {
        const auto freed = static_cast<std::int32_t>(naive[id].size());
        INFO(store.draw());
        REQUIRE(store.release({{id}, false}) == freed);
        used -= freed;
        naive.erase(id);
      } else {
        const auto wanted = static_cast<std::int32_t>(random() % 7);
        const auto grants = store.reserve({{id, wanted}});
        INFO(store.draw() << "wanted " << wanted << " for " << id);
        REQUIRE(grants.size() == 1);
        REQUIRE(grants[0].id == id);
        const bool fits = wanted <= total - used;
        REQUIRE(static_cast<std::int32_t>(grants[0].blocks.size()) == (fits ? wanted : 0));
        used += fits ? wanted : 0;
        auto& list = naive[id];
        list.insert(list.end(), grants[0].blocks.begin(), grants[0].blocks.end());
      }
      std::set<std::int32_t> all;
      for (const auto& [who, blocks] : naive) all.insert(blocks.begin(), blocks.end());
      INFO(store.draw());
      REQUIRE(static_cast<std::int32_t>(all.size()) == used);  // nobody shares
      REQUIRE(store.free() == total - used);
      const auto sound = store.check();
      REQUIRE(sound.ok());
    }
  }
}

TEST_CASE("needs of one message are granted in order, each whole or not at all") {
  kv_store store(5);
  const auto grants = store.reserve({{1, 3}, {2, 3}, {3, 2}});
  REQUIRE(grants[0].blocks.size() == 3);
  REQUIRE(grants[1].blocks.empty());
  REQUIRE(grants[2].blocks.size() == 2);
}

TEST_CASE("the default budget is a share of the free memory, and no more than the contexts can use") {
  kv_budget budget;
  budget.available_bytes = 1'000'000;
  budget.block_bytes = 1'000;
  budget.context_length = 2048;
  budget.max_sequences = 64;
  REQUIRE(*kv_blocks(budget) == 400);
  REQUIRE(kept_blocks(budget, 400) == 400);
  budget.block_bytes = std::int64_t{16} << 20;
  REQUIRE(kept_blocks(budget, 400) == 128);  // 2 GiB of a large machine's free memory
  budget.wanted_bytes = 1;
  REQUIRE(kept_blocks(budget, 400) == 400);
  budget.block_bytes = 1'000;
  budget.wanted_bytes = 123'456;
  REQUIRE(*kv_blocks(budget) == 123);
  budget.context_length = 33;
  budget.max_sequences = 2;
  REQUIRE(*kv_blocks(budget) == 6);
  budget.wanted_bytes = 999;
  REQUIRE(kv_blocks(budget).why().code == errc::out_of_memory);
}
