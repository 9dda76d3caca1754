// Who stops when, and what a death means.
#include "actors/supervisor/lineup.hpp"
#include "support/catch.hpp"

using namespace troupe::actors;

namespace {

lineup three_ranks() {
  lineup line;
  line.add("stream", 2);
  line.add("tokenizer", 0);
  line.add("prefill", 1);
  line.add("decode", 1);
  line.serve();
  return line;
}

}  // namespace

TEST_CASE("actors stop rank by rank, each when the one before is gone") {
  lineup line = three_ranks();
  REQUIRE(line.begin_stop().stop == std::vector<std::size_t>{1});
  REQUIRE(line.down(1).stop == std::vector<std::size_t>{2, 3});
  REQUIRE(line.down(3).stop.empty());
  REQUIRE(line.down(2).stop == std::vector<std::size_t>{0});
  const auto last = line.down(0);
  REQUIRE(last.stopped);
  REQUIRE(line.state() == engine_state::stopped);
}

TEST_CASE("an end that nobody asked for is a failure, once an actor") {
  lineup line = three_ranks();
  REQUIRE(line.down(2).failed);
  REQUIRE(line.state() == engine_state::broken);
  REQUIRE_FALSE(line.down(2).failed);
  REQUIRE_FALSE(line.down(99).failed);
}

TEST_CASE("a broken engine still stops in order and skips the dead") {
  lineup line = three_ranks();
  line.down(1);
  REQUIRE(line.begin_stop().stop == std::vector<std::size_t>{2, 3});
  line.down(0);  // early: nothing waits for it later
  line.down(2);
  REQUIRE(line.down(3).stopped);
}

TEST_CASE("stopping when everyone is gone reports stopped at once, and only once") {
  lineup line = three_ranks();
  for (std::size_t i = 0; i < 4; ++i) line.down(i);
  REQUIRE(line.begin_stop().stopped);
  REQUIRE_FALSE(line.begin_stop().stopped);
}
