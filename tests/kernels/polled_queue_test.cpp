// The queue that an upload's threads hand slots over with: order, ends, and many threads at once.
#include "kernels/cuda/polled_queue.hpp"

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "support/catch.hpp"

using troupe::kernels::cuda::polled_queue;

TEST_CASE("a queue gives what came first, but for what was put in front") {
  polled_queue<int> queue;
  queue.push(1);
  queue.push(2);
  queue.push_first(3);
  CHECK(queue.take() == 3);
  CHECK(queue.take_if_any() == 1);
  CHECK(queue.take() == 2);
  CHECK(queue.take_if_any() == std::nullopt);
}

TEST_CASE("a closed queue gives what it still holds and then nothing") {
  polled_queue<std::unique_ptr<int>> queue;
  queue.push(std::make_unique<int>(7));
  queue.push(std::make_unique<int>(8));
  queue.close();
  CHECK(**queue.take() == 7);
  queue.clear();
  CHECK_FALSE(queue.take());
  CHECK_FALSE(queue.take_if_any());
}

TEST_CASE("closing ends takers that sleep as well as takers that look") {
  for (const auto patience : {std::chrono::microseconds(0), std::chrono::microseconds(std::chrono::hours(1))}) {
    polled_queue<int> queue(patience);
    std::atomic<int> ended = 0;
    std::vector<std::thread> takers;
    for (int i = 0; i < 3; ++i) takers.emplace_back([&] { ended += queue.take().has_value() ? 0 : 1; });
    queue.close();
    for (std::thread& one : takers) one.join();
    CHECK(ended == 3);
  }
}

// As an upload does: work to be read, slots that go round between readers and one sender.
TEST_CASE("slots go round between readers and a sender, and every piece passes once") {
  constexpr int pieces = 3000, slots = 5, readers = 4;
  for (const auto patience : {std::chrono::microseconds(0), std::chrono::microseconds(50)}) {
    struct slot {
      int what = 0;  // not atomic: the queues order those who touch it
    };
    std::vector<slot> all(slots);
    polled_queue<int> work(patience);
    polled_queue<slot*> empty(patience), filled(patience);
    for (slot& one : all) empty.push(&one);
    std::vector<std::thread> reading;
    for (int i = 0; i < readers; ++i)
      reading.emplace_back([&] {
        while (const auto piece = work.take()) {
          slot* const into = *empty.take();
          into->what = *piece;
          filled.push(into);
        }
      });
    std::vector<int> seen(pieces, 0);
    std::thread sender([&] {
      while (const auto one = filled.take()) {
        ++seen[static_cast<std::size_t>((*one)->what)];
        empty.push_first(*one);
      }
    });
    for (int i = 0; i < pieces; ++i) work.push(i);
    work.close();
    for (std::thread& one : reading) one.join();
    filled.close();
    sender.join();
    CHECK(seen == std::vector<int>(pieces, 1));
    int left = 0;
    while (empty.take_if_any()) ++left;
    CHECK(left == slots);
  }
}
