// The engine's prefix cache: what is computed once, and that nobody sees it in the text.
#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <utility>

#include "engine_bench.hpp"
#include "support/forwarding_lane.hpp"

using namespace troupe;
using namespace troupe::actors;

namespace {

engine_options with_cache(bool on) {
  engine_options options;
  options.prefix_cache = on;
  options.stream_shards = 2;
  return options;
}

sampling drawn_with_penalties(std::uint64_t seed) {
  sampling how;
  how.temperature = 0.8f;
  how.repetition_penalty = 1.2f;
  how.presence_penalty = 0.3f;
  how.frequency_penalty = 0.2f;
  how.seed = seed;
  return how;
}

/// A CPU lane that waits at its first attention until it is let go, and then compares what each step of decodes reads
/// of K and V with what the sequences' block tables say it must.
class watched_lane final : public test::forwarding_lane {
public:
  explicit watched_lane(kernels::cpu_lane& cpu) : forwarding_lane(cpu), cpu_(cpu) {}
  void attention(memory::tensor_view qkv, std::int32_t heads, float scale, std::int32_t layer,
                 const kernels::kv_arena& kv, std::span<const kernels::sequence_rows> batch,
                 memory::tensor_view out) override {
    go.wait(false);
    const std::int64_t before = cpu_.kv_bytes_read();
    forwarding_lane::attention(qkv, heads, scale, layer, kv, batch, out);
    if (std::any_of(batch.begin(), batch.end(), [](const auto& one) { return one.rows != 1; })) return;
    const std::int64_t read =
        (cpu_.kv_bytes_read() - before) / cpu_.kv_block_bytes({1, kv.shape.kv_heads, kv.shape.head_dim});
    wrong += read == blocks_to_read(batch) ? 0 : 1;
    together = std::max(together, batch.size());
    for (const auto& one : batch) apart += (one.past + 1 + 15) / 16;
    shared += read;
  }

  std::atomic<bool> go{false};
  std::int64_t wrong = 0;  ///< steps that read something else than once what is shared and each one's own
  std::int64_t shared = 0,
               apart = 0;    ///< blocks that were read, and that would be if each sequence read all of its own
  std::size_t together = 0;  ///< sequences in the largest of those steps

private:
  static std::int64_t blocks_to_read(std::span<const kernels::sequence_rows> batch) {
    constexpr std::int32_t piece = 128 / 16;  // what attention shares: whole ones behind which no step writes
    std::set<std::vector<std::int32_t>> prefixes;
    std::int64_t own = 0;
    for (const auto& one : batch) {
      const std::int32_t whole = one.past / 128;
      for (std::int32_t p = 1; p <= whole; ++p) prefixes.emplace(one.blocks.begin(), one.blocks.begin() + p * piece);
      own += (one.past + 1 + 15) / 16 - whole * piece;
    }
    return static_cast<std::int64_t>(prefixes.size()) * piece + own;
  }
  kernels::cpu_lane& cpu_;
};

}  // namespace

TEST_CASE("a second request with the same prompt computes its tail only, and says the same") {
  engine_bench b(with_cache(true));
  const auto prompt = long_prompt(1, 200, 200);
  const auto text = expected(b.path.string(), prompt, 30);
  const auto first = b.ask(1, prompt, 30);
  REQUIRE(first->wait()->usage.cached_tokens == 0);
  REQUIRE(b.gives_everything_back());
  const std::uint64_t rows = b.made->metrics()->prefill_rows;
  REQUIRE(rows == 200);
  const auto second = b.ask(2, prompt, 30);
  REQUIRE(second->wait()->usage.cached_tokens == 192);
  CHECK(second->last->usage.prompt_tokens == 200);
  CHECK(b.made->metrics()->prefill_rows - rows == 8);
  CHECK(b.made->metrics()->prefix_cache_hit_tokens == 192);
  CHECK(first->ids == text);
  CHECK(second->ids == text);
  // A prompt of whole blocks computes its last one again: something must be sampled.
  const auto third = b.ask(3, std::vector<std::int32_t>(prompt.begin(), prompt.begin() + 192), 5);
  CHECK(third->wait()->usage.cached_tokens == 176);
  // And a later turn finds what was generated, too.
  auto turn = prompt;
  turn.insert(turn.end(), text.begin(), text.end());
  const auto fourth = b.ask(4, turn, 10);
  CHECK(fourth->wait()->usage.cached_tokens == 224);
  CHECK(fourth->ids == expected(b.path.string(), turn, 10));
}

TEST_CASE("a conversation whose next turn comes with the last event computes the new tokens only") {
  engine_bench b(with_cache(true));
  auto turn = long_prompt(1, 40, 40);
  std::int32_t known = 0;  // rows that the turns so far have computed
  for (generation_id id = 1; id <= 10; ++id) {
    const auto answer = b.ask(id, turn, 30);
    REQUIRE(answer->wait()->what == event::kind::done);
    REQUIRE(answer->last->usage.cached_tokens == known / 16 * 16);
    turn.insert(turn.end(), answer->ids.begin(), answer->ids.end());
    known = static_cast<std::int32_t>(turn.size()) - 1;  // the token sampled last is nobody's row yet
    turn.push_back(3 + static_cast<std::int32_t>(id));
  }
}

TEST_CASE("without the prefix cache every prompt is computed whole") {
  engine_bench b(with_cache(false));
  const auto prompt = long_prompt(1, 200, 200);
  for (generation_id id = 1; id <= 3; ++id) REQUIRE(b.ask(id, prompt, 3)->wait()->usage.cached_tokens == 0);
  CHECK(b.made->metrics()->prefill_rows == 600);
  CHECK(b.made->metrics()->prefix_cache_hit_tokens == 0);
  CHECK(b.gives_everything_back());
  CHECK(b.made->metrics()->kv_blocks_cached == 0);
}

TEST_CASE("requests that come together compute their common beginning once") {
  engine_bench b(with_cache(true));
  std::vector<std::shared_ptr<collector>> sinks;
  for (generation_id id = 1; id <= 8; ++id) sinks.push_back(b.ask(id, long_prompt(id, 210, 200), 20));
  for (generation_id id = 1; id <= 8; ++id) {
    REQUIRE(sinks[id - 1]->wait());
    CHECK(sinks[id - 1]->ids == expected(b.path.string(), long_prompt(id, 210, 200), 20));
  }
  CHECK(b.made->metrics()->prefill_rows == 210 + 7 * (210 - 192));
}

TEST_CASE("a step of decodes reads the K and V of a beginning that requests have in common once for all of them") {
  for (const int threads : {1, 2}) {
    const auto cpu = kernels::make_cpu_lane({threads}).value_or_throw();
    auto watched = std::make_unique<watched_lane>(*cpu);
    const watched_lane& seen = *watched;
    std::atomic<bool>& go = watched->go;
    engine_bench b(with_cache(true), kernels::any_lane{std::move(watched), "cpu", threads, "", {}});
    const auto prompt = [](generation_id id) {
      return long_prompt(id, 280 + static_cast<std::int32_t>(id), id < 7 ? 270 : 150);
    };
    std::vector<std::shared_ptr<collector>> sinks;
    for (generation_id id = 1; id <= 8; ++id) sinks.push_back(b.ask(id, prompt(id), 60));
    while (b.made->metrics()->running + b.made->metrics()->queued < 8) std::this_thread::yield();
    go = true;
    go.notify_all();
    for (generation_id id = 1; id <= 8; ++id) {
      REQUIRE(sinks[id - 1]->wait());
      CHECK(sinks[id - 1]->ids == expected(b.path.string(), prompt(id), 60));
    }
    REQUIRE(b.gives_everything_back());
    CHECK(seen.together == 8);
    CHECK(seen.wrong == 0);
    CHECK(seen.shared * 2 < seen.apart);
  }
}

TEST_CASE("random text with penalties is the same with the cache and without, whoever came before") {
  const auto prompts = [](generation_id id) {
    return long_prompt(id, 90 + static_cast<std::int32_t>(id * 13 % 60), 70);
  };
  std::map<generation_id, std::vector<std::int32_t>> alone;
  {
    engine_bench b(with_cache(false));
    for (generation_id id = 1; id <= 8; ++id) {
      const auto sink = b.ask(id, prompts(id), 40, drawn_with_penalties(id));
      REQUIRE(sink->wait());
      alone[id] = sink->ids;
    }
  }
  auto options = with_cache(true);
  {
    auto lane = kernels::make_cpu_lane({});
    options.kv_bytes = 30 * (*lane)->kv_block_bytes({2, 1, 32});  // a pool that preempts
  }
  engine_bench b(options);
  for (const bool forwards : {true, false}) {
    std::map<generation_id, std::shared_ptr<collector>> sinks;
    for (generation_id i = 1; i <= 8; ++i) {
      const generation_id id = forwards ? i : 9 - i;
      sinks[id] = b.ask((forwards ? 0 : 100) + id, prompts(id), 40, drawn_with_penalties(id));
    }
    for (auto& [id, sink] : sinks) {
      REQUIRE(sink->wait());
      INFO(sink->last->why.text);
      CAPTURE(id, forwards);
      CHECK(sink->ids == alone[id]);
    }
  }
  CHECK(b.made->metrics()->preemptions > 0);
  CHECK(b.made->metrics()->prefix_cache_hit_tokens > 0);
  CHECK(b.gives_everything_back());
}

TEST_CASE("a request cancelled in the middle of its prompt leaves only computed blocks to others") {
  auto options = with_cache(true);
  options.max_batch_tokens = 80;
  engine_bench b(options);
  const auto prompt = long_prompt(1, 400, 400);
  const auto text = expected(b.path.string(), prompt, 10);
  for (generation_id id = 1; id <= 20; ++id) {
    const auto dropped = b.ask(id, long_prompt(id, 400, 400 - static_cast<std::int32_t>(id)), 10);
    for (std::uint64_t i = 0; i < id * 40; ++i) std::this_thread::yield();
    caf::anon_send(b.made->links()->streams[id % 2], cancel_generation{id, nullptr});
    REQUIRE(dropped->wait());
  }
  const auto whole = b.ask(100, prompt, 10);
  REQUIRE(whole->wait());
  CHECK(whole->ids == text);
  CHECK(b.gives_everything_back());
}
