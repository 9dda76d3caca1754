// Items that members take piece by piece: each exactly once, the owner's first ones in order. Small enough for the
// thread sanitizer.
#include "support/catch.hpp"

#include <atomic>
#include <vector>

#include "kernels/cpu/shared_items.hpp"

using namespace troupe::kernels;

TEST_CASE("every item is taken exactly once, however many members take part") {
  for (const int size : {1, 2, 3, 5}) {
    thread_team team(size);
    shared_items left(team);
    for (int round = 0; round < 300; ++round) {
      const std::int64_t count = round * 7 % 41;
      left.deal(team, count);
      std::vector<std::atomic<int>> taken(static_cast<std::size_t>(count));
      team.run([&](int thread, int) {
        if (thread == 0 && round % 3 == 0) return;  // its share is left to the others
        for (share some = left.take(thread); some.first < some.last; some = left.take(thread))
          for (std::int64_t i = some.first; i < some.last; ++i) ++taken[static_cast<std::size_t>(i)];
      });
      if (size == 1 && round % 3 == 0) continue;
      for (const auto& times : taken) REQUIRE(times == 1);
      CHECK(left.take(0).last == 0);
    }
  }
}

TEST_CASE("a member takes three quarters of its share from the front, another half of what is left from the back") {
  thread_team team(3);
  shared_items left(team);
  left.deal(0, {10, 26});
  left.deal(1, {26, 31});
  left.deal(2, {});
  const auto is = [](share s, std::int64_t first, std::int64_t last) { return s.first == first && s.last == last; };
  CHECK(is(left.take(0), 10, 22));
  CHECK(is(left.take(2), 24, 26));
  CHECK(is(left.take(1), 26, 30));
  CHECK(is(left.take(0), 22, 24));
  CHECK(is(left.take(0), 30, 31));
  for (int member = 0; member < 3; ++member) CHECK(is(left.take(member), 0, 0));
}
