// The engine with host memory behind its blocks: a CPU lane that plays a device, whose copies are memcpy.
#include <map>

#include "engine_bench.hpp"
#include "support/played_copies.hpp"

using namespace troupe;
using namespace troupe::actors;

namespace {

kernels::any_lane playing_device(int fail_every = 0) {
  kernels::lane_wish wish;
  wish.threads = 1;
  auto lane = kernels::make_lane("cpu", wish);
  REQUIRE(lane);
  lane->host_blocks = test::play_copies(fail_every);
  return *std::move(lane);
}

engine_options of_blocks(std::int64_t device, std::int64_t host) {
  auto lane = kernels::make_cpu_lane({});
  const std::int64_t block = (*lane)->kv_block_bytes({2, 1, 32});
  engine_options options;
  options.kv_bytes = device * block;
  options.host_kv_bytes = host * block;
  options.stream_shards = 2;
  return options;
}

std::vector<std::int32_t> prompt_of(generation_id id) { return long_prompt(id, 200, 0); }

}  // namespace

TEST_CASE("a prompt whose blocks went to host memory is not computed again, and its answer is the same") {
  engine_bench b(of_blocks(20, 64), playing_device());
  REQUIRE(b.made->figures().host_kv_blocks == 64);
  for (generation_id id = 1; id <= 3; ++id) {
    REQUIRE(b.ask(id, prompt_of(id), 20)->wait()->usage.cached_tokens == 0);
    REQUIRE(b.gives_everything_back());
  }
  const auto& counted = *b.made->metrics();
  REQUIRE(counted.kv_host_blocks > 0);
  REQUIRE(counted.kv_host_bytes_out > 0);
  const std::uint64_t rows = counted.prefill_rows;
  const auto again = b.ask(4, prompt_of(1), 20);
  REQUIRE(again->wait()->usage.cached_tokens == 192);
  CHECK(again->ids == expected(b.path.string(), prompt_of(1), 20));
  CHECK(counted.prefill_rows - rows == 8);
  CHECK(counted.kv_host_hit_tokens >= 128);
  CHECK(counted.kv_host_bytes_in * 16 ==
        counted.kv_host_hit_tokens *
            static_cast<std::uint64_t>(b.made->figures().kv_bytes / b.made->figures().kv_blocks));
  CHECK(b.gives_everything_back());
}

TEST_CASE("many that preempt each other and come back say what each says alone, also when copies fail") {
  std::map<generation_id, std::vector<std::int32_t>> alone;
  for (const int fail_every : {0, 5}) {
    engine_bench b(of_blocks(30, 40), playing_device(fail_every));
    for (generation_id round = 0; round < 4; ++round) {
      std::map<generation_id, std::shared_ptr<collector>> sinks;
      for (generation_id i = 1; i <= 8; ++i)
        sinks[i] = b.ask(100 * round + i, long_prompt(i, 90 + static_cast<std::int32_t>(i * 13 % 60), 70), 40);
      for (auto& [i, sink] : sinks) {
        REQUIRE(sink->wait());
        INFO(sink->last->why.text);
        CAPTURE(i, round, fail_every);
        if (!alone.contains(i))
          alone[i] = expected(b.path.string(), long_prompt(i, 90 + static_cast<std::int32_t>(i * 13 % 60), 70), 40);
        CHECK(sink->ids == alone[i]);
      }
    }
    CHECK(b.made->metrics()->kv_host_hit_tokens > 0);
    CHECK((b.made->metrics()->kv_host_failed_copies > 0) == (fail_every > 0));
    CHECK(b.gives_everything_back());
  }
}

TEST_CASE("host memory for blocks is refused where there is too little of it, and ignored where blocks lie in it") {
  test::scratch_path path{".gguf"};
  REQUIRE(test::write_tiny_model(path.string()));
  caf::actor_system_config config;
  caf::actor_system system(config);
  auto options = of_blocks(20, 64);
  options.host_kv_bytes = std::int64_t{1} << 60;
  const auto large = engine::create_on(playing_device(), system, path.string(), options);
  REQUIRE_FALSE(large.ok());
  CHECK(large.why().code == errc::out_of_memory);
  CHECK(large.why().text.find("--host-kv-gib") != std::string::npos);
  const auto ignored = engine::create(system, path.string(), options);
  REQUIRE(ignored.ok());
  CHECK((*ignored)->figures().host_kv_blocks == 0);
  options.prefix_cache = false;
  CHECK(engine::create_on(playing_device(), system, path.string(), options).why().code == errc::invalid_argument);
}
