// The team: every member runs, barriers hold, an idle team sleeps. Small enough for the thread sanitizer.
#include "support/catch.hpp"

#include <ctime>
#include <thread>
#include <vector>

#include "kernels/cpu/thread_team.hpp"

using namespace troupe::kernels;

TEST_CASE("every member runs each dispatch exactly once") {
  for (const int size : {1, 2, 3, 5}) {
    thread_team team(size);
    std::vector<int> calls(static_cast<std::size_t>(size), 0);
    for (int round = 0; round < 2000; ++round)
      team.run([&](int thread, int threads) {
        if (threads == size) ++calls[static_cast<std::size_t>(thread)];
      });
    for (const int count : calls) CHECK(count == 2000);
    CHECK(team.dispatches() == 2000);
  }
}

TEST_CASE("what one member wrote before a barrier all read after it") {
  constexpr int size = 3, rounds = 500, steps = 4;
  thread_team team(size);
  std::vector<int> values(size, 0);
  std::vector<int> wrong(size, 0);
  for (int round = 0; round < rounds; ++round)
    team.run([&](int thread, int threads) {
      const auto me = static_cast<std::size_t>(thread);
      for (int step = 0; step < steps; ++step) {
        values[me] = round * steps + step;
        team.barrier();
        for (int other = 0; other < threads; ++other)
          wrong[me] += values[static_cast<std::size_t>(other)] != round * steps + step;
        team.barrier();
      }
    });
  for (const int count : wrong) CHECK(count == 0);
  CHECK(team.barriers() == 2 * rounds * steps);
}

TEST_CASE("shares cover every item once, in order, nearly equal") {
  for (const int threads : {1, 2, 3, 8}) {
    const thread_team team(threads);
    for (const std::int64_t count : {0, 1, 2, 7, 64, 1001}) {
      std::int64_t next = 0;
      for (int thread = 0; thread < threads; ++thread) {
        const share mine = team.share_of(count, thread, threads);
        CHECK(mine.first == next);
        CHECK(mine.last - mine.first <= count / threads + 1);
        next = mine.last;
      }
      CHECK(next == count);
    }
  }
}

TEST_CASE("shares follow the members' weights, in a narrow round too") {
  const thread_team team({{{}, 1024}, {{}, 1024}, {{}, 512}, {{}, 512}});
  const auto sizes = [&](std::int64_t count, int threads) {
    std::vector<std::int64_t> found;
    for (int thread = 0; thread < threads; ++thread) {
      const share mine = team.share_of(count, thread, threads);
      found.push_back(mine.last - mine.first);
    }
    return found;
  };
  CHECK(sizes(600, 4) == std::vector<std::int64_t>{200, 200, 100, 100});
  CHECK(sizes(500, 3) == std::vector<std::int64_t>{200, 200, 100});
  CHECK(sizes(400, 2) == std::vector<std::int64_t>{200, 200});
  CHECK(sizes(7, 1) == std::vector<std::int64_t>{7});
}

TEST_CASE("members run where they are bound, and the caller where it was before once the team has ended") {
  const std::vector<int> before = troupe::base::allowed_cpus();
  const std::vector<int> first{before.front()}, last{before.back()};
  std::vector<std::vector<int>> seen(2), other(2);
  {
    thread_team team({{first, 1}, {last, 1}});
    team.run([&](int thread, int) { seen[static_cast<std::size_t>(thread)] = troupe::base::allowed_cpus(); });
    std::thread([&] {
      team.run([&](int thread, int) { other[static_cast<std::size_t>(thread)] = troupe::base::allowed_cpus(); });
    }).join();
    CHECK(troupe::base::allowed_cpus() == before);  // another thread drives the team now
    team.run([](int, int) {});
    CHECK(troupe::base::allowed_cpus() == first);
  }
  CHECK(seen == std::vector{first, last});
  CHECK(other == seen);
  CHECK(troupe::base::allowed_cpus() == before);
}

namespace {

long long nanoseconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return now.tv_sec * 1'000'000'000ll + now.tv_nsec;
}

/// Busy for so long that the team's workers have stopped spinning.
void outlast_spinning(long long time) {
  const long long begin = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
  while (nanoseconds(CLOCK_THREAD_CPUTIME_ID) - begin < time) continue;
}

}  // namespace

TEST_CASE("a team that was parked wakes up again") {
  thread_team team(2);
  int sum = 0;
  for (int round = 0; round < 5; ++round) {
    outlast_spinning(2'000'000);
    team.run([&](int thread, int) {
      if (thread == 1) ++sum;
    });
  }
  CHECK(sum == 5);
}

TEST_CASE("an idle team uses no processor time") {
  thread_team team(3);
  team.run([](int, int) {});
  const long long process = nanoseconds(CLOCK_PROCESS_CPUTIME_ID), own = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
  outlast_spinning(100'000'000);
  const long long own_used = nanoseconds(CLOCK_THREAD_CPUTIME_ID) - own;
  const long long others = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - process - own_used;
  CHECK(others < 20'000'000);
}

TEST_CASE("a team narrows where a member is always late, and takes it back later") {
  thread_team team(2, when_late::narrow);
  const auto late_round = [&] {
    team.run([](int thread, int) {
      if (thread == 1) outlast_spinning(2'000'000);
    });
  };
  int rounds = 0;
  while (team.width() == 2 && rounds < 1000) late_round(), ++rounds;
  CHECK(team.width() == 1);
  CHECK(rounds > 2);
  // Nobody is late any more: the member comes back within the longest absence, and stays.
  int calls = 0;
  for (int tries = 0; tries < 100 && team.width() == 1; ++tries) {
    outlast_spinning(50'000'000);
    team.run([&](int thread, int) {
      if (thread == 1) ++calls;
    });
  }
  CHECK(team.width() == 2);
  CHECK(calls == 1);
}

TEST_CASE("whoever is late in turn, each round has its members once and its barrier holds") {
  constexpr int size = 4, rounds = 400;
  thread_team team(size, when_late::narrow);
  int narrow_rounds = 0, wrong = 0;
  for (int round = 0; round < rounds; ++round) {
    std::vector<int> calls(size, 0), seen(size, 0);
    const int late = round / 50 % size;
    team.run([&](int thread, int threads) {
      if (thread == late) outlast_spinning(400'000);
      ++calls[static_cast<std::size_t>(thread)];
      team.barrier();
      for (int other = 0; other < threads; ++other)
        seen[static_cast<std::size_t>(thread)] += calls[static_cast<std::size_t>(other)];
    });
    const int width = team.width();
    narrow_rounds += width < size;
    for (int thread = 0; thread < size; ++thread) {
      const auto t = static_cast<std::size_t>(thread);
      wrong += calls[t] != (thread < width ? 1 : 0) || seen[t] != (thread < width ? width : 0);
    }
  }
  CHECK(wrong == 0);
  CHECK(narrow_rounds > 0);
}
