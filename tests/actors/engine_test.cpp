// The whole engine on a tiny model: tokens as the bare network gives them, alone and together, and a clean end.
#include <future>
#include <map>

#include "engine_bench.hpp"
#include "support/late_lane.hpp"

using namespace troupe;
using namespace troupe::actors;

namespace {

using bench = engine_bench;

std::vector<std::int32_t> some_prompt(generation_id id) {
  std::vector<std::int32_t> prompt;
  for (std::uint64_t i = 0; i < 5 + id * 7 % 60; ++i)
    prompt.push_back(static_cast<std::int32_t>(3 + (id * 31 + i * 17) % 250));
  return prompt;
}

}  // namespace

TEST_CASE("sixteen generations together each get the tokens that the bare network gives them alone") {
  engine_options options;
  options.stream_shards = 2;
  options.max_sequences = 8;
  bench b(options);
  std::map<generation_id, std::shared_ptr<collector>> sinks;
  for (generation_id id = 1; id <= 16; ++id) sinks[id] = b.ask(id, some_prompt(id), 40);
  for (auto& [id, sink] : sinks) {
    const auto end = sink->wait();
    REQUIRE(end);
    REQUIRE(end->what == event::kind::done);
    REQUIRE(end->reason == finish_reason::length);
    CAPTURE(id);
    REQUIRE(sink->ids == expected(b.path.string(), some_prompt(id), 40));
  }
  const auto& metrics = *b.made->metrics();
  CHECK(metrics.sampled_tokens == 16 * 40);
  CHECK(b.gives_everything_back());
  REQUIRE(b.made->stop());
}

TEST_CASE("with a queue of their own prompts are computed beside decodes, and the tokens stay the same") {
  const auto cpu = kernels::make_cpu_lane({1}).value_or_throw();
  const test::late_lane* prompts = nullptr;
  kernels::any_lane two{std::make_unique<test::late_lane>(*cpu), "cpu", 1, "", {}};
  two.second_queue = [&](kernels::lane&, bool divided) -> result<std::unique_ptr<kernels::lane>> {
    CHECK_FALSE(divided);
    auto made = std::make_unique<test::late_lane>(*cpu);
    prompts = made.get();
    return std::unique_ptr<kernels::lane>(std::move(made));
  };
  // Steps before the first, as a device takes them: nothing of them stays.
  std::int32_t warmed = 0;
  two.warm_up = [&](kernels::lane& lane, kernels::step_space* space, const kernels::step_ops& whole,
                    const kernels::step_ops& ends, std::int32_t blocks) -> result<void> {
    ++warmed;
    CHECK(blocks > 1);
    for (const auto& ops : {whole, ends}) {
      const std::vector<std::int32_t> ids{5, 6, 7}, table{0, 1}, last{2}, slots{1};
      const std::vector<kernels::sequence_rows> sequences{{0, 3, 15, table}};
      const std::vector<kernels::sampling_row> sampling(1);
      std::vector<kernels::sampled> picks(1);
      if (auto begun = lane.begin_step(space, {ids, sequences, last, sampling, slots, picks}, ops); !begun)
        return begun.why();
      if (auto ended = lane.end_step(); !ended) return ended;
      CHECK(picks[0].id >= 0);
    }
    return {};
  };
  engine_options options;
  options.max_sequences = 8;
  options.max_batch_tokens = 64;
  options.most_growth = 1.01;  // hardly anything may be mixed
  options.prefill_queue = "beside";
  bench b(options, std::move(two));
  REQUIRE(prompts);
  CHECK(warmed == 2);
  const auto prompt = [](generation_id id) {
    auto ids = some_prompt(id);
    if (id % 3 == 0)
      while (ids.size() < 300) ids.push_back(static_cast<std::int32_t>(3 + ids.size() * id % 250));
    return ids;
  };
  std::map<generation_id, std::shared_ptr<collector>> sinks;
  for (generation_id id = 1; id <= 12; ++id) sinks[id] = b.ask(id, prompt(id), 40);
  for (auto& [id, sink] : sinks) {
    const auto end = sink->wait();
    REQUIRE(end);
    CAPTURE(id);
    REQUIRE(end->what == event::kind::done);
    REQUIRE(sink->ids == expected(b.path.string(), prompt(id), 40));
  }
  CHECK(b.gives_everything_back());
  REQUIRE(b.made->stop());
  CHECK(prompts->steps > 0);
}

TEST_CASE("a queue for prompts that a device has not is refused") {
  test::scratch_path path{".gguf"};
  REQUIRE(test::write_tiny_model(path.string()));
  caf::actor_system_config config;
  caf::actor_system system(config);
  engine_options options;
  options.prefill_queue = "divided";
  const auto made = engine::create(system, path.string(), options);
  REQUIRE_FALSE(made);
  CHECK(made.why().code == errc::invalid_argument);
}

TEST_CASE("a pool too small for all preempts, and the tokens stay the same") {
  engine_options options;
  options.kv_bytes = 1;
  {
    auto lane = kernels::make_cpu_lane({});
    options.kv_bytes = 12 * (*lane)->kv_block_bytes({2, 1, 32});
  }
  bench b(options);
  std::vector<std::shared_ptr<collector>> sinks;
  for (generation_id id = 1; id <= 6; ++id) sinks.push_back(b.ask(id, {10, static_cast<std::int32_t>(20 + id)}, 100));
  for (generation_id id = 1; id <= 6; ++id) {
    const auto end = sinks[id - 1]->wait();
    REQUIRE(end);
    INFO(end->why.text);
    REQUIRE(end->what == event::kind::done);
    REQUIRE(sinks[id - 1]->ids == expected(b.path.string(), {10, static_cast<std::int32_t>(20 + id)}, 100));
  }
  REQUIRE(b.made->metrics()->preemptions > 0);
}

TEST_CASE("the same memory holds as many KV blocks as the type of K and V allows, and each gets them all back") {
  constexpr std::int64_t memory = 1 << 20, layers = 2, tokens = 16, dim = 32;  // the tiny model has one KV head
  struct row {
    const char* type;
    std::int64_t bits;  // of a number
  };
  for (const auto& [type, bits] :
       {row{"", 16}, row{"i16", 16}, row{"f16", 16}, row{"bf16", 16}, row{"q8_0", 8}, row{"q4_0", 4}}) {
    CAPTURE(type);
    engine_options options;
    options.kv_type = type;
    options.kv_bytes = memory;
    options.max_sequences = 64;  // with contexts for more blocks than these
    bench b(options);
    const std::int64_t scales = 2 * tokens * 2, numbers = 2 * tokens * dim * bits / 8;  // of K and of V
    CHECK(b.made->metrics()->kv_blocks_total == memory / (layers * (scales + numbers)));
    const auto end = b.ask(1, some_prompt(1), 40)->wait();
    REQUIRE(end);
    CHECK(end->what == event::kind::done);
    CHECK(b.gives_everything_back());
  }
}

TEST_CASE("steps are as large as suits the device, or as they were asked for") {
  const auto blocks = [](std::string device, std::int32_t wanted) {
    engine_options options;
    options.max_sequences = wanted;
    options.kv_bytes = std::int64_t{1} << 30;  // more than all sequences together can use: their number is the bound
    bench b(options, {kernels::make_cpu_lane({1}).value_or_throw(), std::move(device), 1, "", {}});
    return b.made->metrics()->kv_blocks_total.load();
  };
  const auto of_one = blocks("cpu", 1);
  CHECK(blocks("cpu", 0) == 64 * of_one);
  CHECK(blocks("cuda", 0) == 256 * of_one);
  CHECK(blocks("cuda", 5) == 5 * of_one);
}

TEST_CASE("stop while generations run fails them with shutting_down and ends every actor") {
  bench b;
  const auto sink = b.ask(1, {5, 6, 7}, 500);
  REQUIRE(b.made->stop(std::chrono::seconds(60)));
  const auto end = sink->wait();
  REQUIRE(end);
  if (end->what == event::kind::failed) REQUIRE(end->why.code == errc::shutting_down);
  REQUIRE(b.made->links() == nullptr);
  REQUIRE(b.made->stop());
}

TEST_CASE("drain lets what runs finish and refuses what comes later") {
  bench b;
  const auto before = b.ask(1, {5, 6, 7}, 200);
  std::promise<void> answered;
  caf::anon_send(b.made->links()->scheduler, probe_engine{[&](const result<void>&) { answered.set_value(); }});
  REQUIRE(answered.get_future().wait_for(std::chrono::seconds(60)) == std::future_status::ready);
  while (b.made->metrics()->prompt_tokens == 0) std::this_thread::yield();
  std::promise<void> drained;
  b.made->drain([&] { drained.set_value(); });
  REQUIRE(drained.get_future().wait_for(std::chrono::seconds(60)) == std::future_status::ready);
  const auto end = before->wait();
  REQUIRE(end);
  REQUIRE(end->what == event::kind::done);
  const auto later = b.ask(2, {5, 6, 7}, 5)->wait();
  REQUIRE(later);
  REQUIRE(later->why.code == errc::shutting_down);
}

TEST_CASE("engines come and go without leaving an actor behind") {
  for (int i = 0; i < 5; ++i) {
    bench b;
    if (i % 2 == 0) b.ask(1, {5, 6, 7}, 20)->wait();
    b.made.reset();
    b.system->await_all_actors_done();
  }
}
