// The edge between threads: order, bound, close, cancel, and wakes that are never lost. Run under TSan too.
#include <atomic>
#include <numeric>
#include <thread>

#include <troupe/edge.hpp>

#include "support/catch.hpp"

using troupe::edge;

TEST_CASE("items arrive in order and whole through an edge of any size, in any batches") {
  for (std::size_t capacity : {1, 2, 7, 64}) {
    edge<int> between(capacity);
    std::thread producer([&] {
      for (int i = 0; i < 5000;) {
        std::vector<int> batch;
        for (int n = i % 9 + 1; n > 0 && i < 5000; --n) batch.push_back(i++);
        if (!between.push(std::move(batch))) break;
      }
      between.close();
    });
    std::vector<int> got;
    std::size_t most = 1;
    while (between.pop(got, most)) most = most % 11 + 1;
    producer.join();
    std::vector<int> expected(5000);
    std::iota(expected.begin(), expected.end(), 0);
    CHECK(got == expected);
    CHECK(between.finished());
  }
}

TEST_CASE("a slow consumer stops its producer at the bound") {
  edge<int> between(4);
  std::vector<int> batch{1, 2, 3, 4, 5, 6};
  between.offer(batch);
  CHECK(between.size() == 4);
  CHECK(batch == std::vector<int>{5, 6});
  int room = 0;
  between.on_room([&] { ++room; });
  std::vector<int> got;
  CHECK(between.take(got, 1) == 1);
  CHECK(room == 1);
  CHECK(between.take(got, 1) == 1);
  CHECK(room == 1);
  between.offer(batch);
  CHECK(batch.empty());
  CHECK(between.size() == 4);
}

TEST_CASE("a consumer that found nothing is woken once, by items or by the close") {
  edge<int> between(4);
  int woken = 0;
  between.on_items([&] { ++woken; });
  std::vector<int> got;
  CHECK(between.take(got, 9) == 0);
  between.push(1);
  between.push(2);
  CHECK(woken == 1);
  CHECK(between.take(got, 9) == 2);
  CHECK(between.take(got, 9) == 0);
  between.close();
  CHECK(woken == 2);
  CHECK(between.finished());
}

TEST_CASE("a cancel frees a producer that waits and drops what is queued") {
  edge<int> between(1);
  std::atomic<bool> refused{false};
  std::thread producer([&] {
    while (between.push(7)) {
    }
    refused = true;
  });
  std::vector<int> got;
  REQUIRE(between.pop(got, 1));
  between.cancel();
  producer.join();
  CHECK(refused);
  CHECK(between.finished());
  std::vector<int> batch{1};
  between.offer(batch);
  CHECK(batch.empty());
  CHECK(between.size() == 0);
}

TEST_CASE("driven by wakes alone, without blocking, every item arrives") {
  // Each side runs only when woken, as an actor would; the wakes cross threads.
  for (int round = 0; round < 50; ++round) {
    edge<int> between(3);
    edge<char> to_producer(1000), to_consumer(1000);  // mailboxes
    between.on_room([&] { to_producer.push('w'); });
    between.on_items([&] { to_consumer.push('w'); });
    std::thread producer([&] {
      std::vector<int> batch(300);
      std::iota(batch.begin(), batch.end(), 0);
      std::vector<char> mail;
      for (between.offer(batch); !batch.empty(); between.offer(batch)) to_producer.pop(mail, 1);
      between.close();
    });
    std::vector<int> got;
    std::vector<char> mail;
    while (!between.finished())
      if (between.take(got, 2) == 0 && !between.finished()) REQUIRE(to_consumer.pop(mail, 1));
    producer.join();
    REQUIRE(got.size() == 300);
    REQUIRE(std::is_sorted(got.begin(), got.end()));
  }
}
