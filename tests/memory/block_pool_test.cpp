// The block pool against a plain model of it, and its refusals.
#include "memory/block_pool.hpp"

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "support/catch.hpp"

using troupe::memory::block_pool;

TEST_CASE("a pool hands out every block once and then none") {
  block_pool pool(5);
  std::map<std::int32_t, int> seen;
  while (const auto block = pool.take()) ++seen[*block];
  CHECK(seen.size() == 5);
  CHECK(pool.free() == 0);
  CHECK(pool.total() == 5);
  CHECK(seen.begin()->first == 0);
  CHECK(seen.rbegin()->first == 4);
  CHECK(pool.check().ok());
}

TEST_CASE("a shared block is free only after its last user let go") {
  block_pool pool(2);
  const std::int32_t block = *pool.take();
  REQUIRE(pool.share(block));
  CHECK(pool.count(block) == 2);
  CHECK_FALSE(pool.release(block));
  CHECK(pool.free() == 1);
  CHECK(pool.release(block));
  CHECK(pool.free() == 2);
}

TEST_CASE("numbers outside the pool and free blocks are refused and change nothing") {
  block_pool pool(2);
  for (const std::int32_t block : {-1, 0, 1, 2, 1 << 30}) {
    CHECK_FALSE(pool.share(block));
    CHECK_FALSE(pool.release(block));
    CHECK(pool.count(block) == 0);
  }
  CHECK(pool.free() == 2);
  CHECK(pool.check().ok());
  CHECK(block_pool(0).take() == std::nullopt);
  CHECK(block_pool(-3).total() == 0);
}

TEST_CASE("counts agree with a plain model after every random step") {
  std::mt19937 random(7);
  block_pool pool(17);
  std::vector<int> counts(17, 0);
  for (int step = 0; step < 20000; ++step) {
    const auto block = static_cast<std::int32_t>(random() % 17);
    int& count = counts[static_cast<std::size_t>(block)];
    switch (random() % 3) {
      case 0:
        if (const auto taken = pool.take()) {
          REQUIRE(counts[static_cast<std::size_t>(*taken)] == 0);
          counts[static_cast<std::size_t>(*taken)] = 1;
        } else {
          REQUIRE(std::count(counts.begin(), counts.end(), 0) == 0);
        }
        break;
      case 1:
        REQUIRE(pool.share(block) == (count > 0));
        count += count > 0;
        break;
      default: REQUIRE(pool.release(block) == (count == 1)); count -= count > 0;
    }
    REQUIRE(pool.count(block) == counts[static_cast<std::size_t>(block)]);
    REQUIRE(pool.free() == std::count(counts.begin(), counts.end(), 0));
    REQUIRE(pool.check().ok());
  }
}
