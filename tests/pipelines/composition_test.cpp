// What fits composes and what does not fit does not compile; and pipelines without models, run part by part.
#include <troupe/troupe.hpp>

#include "support/catch.hpp"

using namespace troupe;

namespace {

struct redact {
  void operator()(token_window& window) { window.pass(); }
};
struct length_of {
  int operator()(const std::string& text) { return static_cast<int>(text.size()); }
};
struct count_events {
  void operator()(const event&) {}
};
struct swallow_text {
  void operator()(const std::string&) {}
};
struct swallow_number {
  void operator()(int) {}
};
struct not_a_stage {};

template <class Left, class Right>
concept composes = requires(Left left, Right right) { std::move(left) >> std::move(right); };

// Text goes to what takes text, and to a model; numbers and other things do not.
static_assert(composes<flow<std::string>, length_of>);
static_assert(composes<flow<std::string>, chat>);
static_assert(composes<flow<chat_prompt>, chat>);
static_assert(!composes<flow<int>, chat>);
static_assert(!composes<flow<chat_prompt>, length_of>);
static_assert(!composes<flow<std::string>, not_a_stage>);
// Operators and holds belong behind a model.
static_assert(composes<answers<std::string>, redact>);
static_assert(composes<answers<std::string>, hold>);
static_assert(!composes<flow<std::string>, redact>);
static_assert(!composes<flow<std::string>, hold>);
// An answer is read whole or streamed, or asked on.
static_assert(composes<answers<std::string>, swallow_text>);
static_assert(composes<answers<std::string>, count_events>);
static_assert(composes<answers<std::string>, chat>);
static_assert(!composes<answers<std::string>, swallow_number>);
// A closed pipeline takes nothing more.
static_assert(!composes<pipeline, length_of>);
static_assert(std::same_as<decltype(std::declval<flow<int>>() >> swallow_number{}), pipeline>);

// Runs all parts round after round on this thread, as a scheduler would.
int rounds(const pipeline_graph& graph) {
  std::vector<bool> finished(graph.parts.size(), false);
  int round = 0;
  for (bool any = true; any && round < 100'000; ++round) {
    any = false;
    for (std::size_t i = 0; i < graph.parts.size(); ++i) {
      if (finished[i]) continue;
      any = true;
      finished[i] = graph.parts[i].what->advance() == part::progress::finished;
    }
  }
  return round;
}

}  // namespace

TEST_CASE("items pass through stages that map, drop and multiply them, in order") {
  std::vector<int> numbers(1000);
  for (int i = 0; i < 1000; ++i) numbers[static_cast<std::size_t>(i)] = i;
  std::vector<int> got;
  const pipeline p = from(numbers) >> [](int n) { return n * 2; } >>
                     [](int n) { return n % 4 == 0 ? std::optional<int>(n) : std::nullopt; } >>
                     [](int n) { return std::vector<int>{n, n + 1}; } >> [&got](int n) { got.push_back(n); };
  rounds(p.built());
  REQUIRE(got.size() == 1000);
  for (int i = 0; i < 1000; ++i) REQUIRE(got[static_cast<std::size_t>(i)] == i / 2 * 4 + i % 2);
  got.clear();
  rounds(p.built());
  CHECK(got.size() == 1000);
}

TEST_CASE("a stage whose reader stands still is stopped by credit, and so is an endless source") {
  int made = 0;
  const pipeline p =
      from([&made] { return std::optional<int>(++made); }) >> [](int n) { return n; } >> swallow_number{};
  const pipeline_graph graph = p.built();
  for (int round = 0; round < 1000; ++round)
    for (std::size_t i = 0; i + 1 < graph.parts.size(); ++i) graph.parts[i].what->advance();
  CHECK(made <= static_cast<int>(2 * pipeline_graph::edge_capacity + 3 * pipeline_graph::batch));
}

TEST_CASE("a part that gives up ends those before it by cancel and those behind it by close") {
  int got = 0;
  const pipeline p =
      from([n = 0]() mutable { return std::optional<int>(n++); }) >> [](int n) { return n; } >> [&got](int) { ++got; };
  const pipeline_graph graph = p.built();
  for (int i = 0; i < 5; ++i)
    for (const auto& one : graph.parts) one.what->advance();
  graph.parts[1].what->abandon();
  CHECK(graph.parts[0].what->advance() == part::progress::finished);
  part::progress last = part::progress::more;
  for (int i = 0; i < 100 && last != part::progress::finished; ++i) last = graph.parts[2].what->advance();
  CHECK(last == part::progress::finished);
  CHECK(got > 0);
}
