// What is counted and what the page calls it.
#include "pipelines/metrics_page.hpp"
#include "actors/metrics.hpp"
#include "actors/stream/stream_counters.hpp"
#include "support/catch.hpp"

using namespace troupe;
using pipelines::served_model;

TEST_CASE("used blocks are those neither free nor cached, and a host hit is said in tokens") {
  const auto engine = std::make_shared<actors::engine_metrics>();
  engine->kv_blocks_total = 10;
  engine->kv_blocks_free = 5;
  engine->kv_blocks_cached = 2;
  engine->kv_host_hit_tokens = 48;
  engine->step_gap.observe(std::chrono::seconds(5));
  std::string text;
  std::vector<pipelines::served_model> models(1);
  models[0].card.name = "m";
  models[0].engine = engine;
  models[0].stream = std::make_shared<actors::stream_counters>();
  pipelines::append_metrics_page(text, models);
  CHECK(text.find("troupe_kv_blocks_used{model=\"m\"} 3\n") != std::string::npos);
  CHECK(text.find("troupe_kv_host_hit_tokens_total{model=\"m\"} 48\n") != std::string::npos);
  CHECK(text.find("troupe_engine_healthy{model=\"m\"} 1\n") != std::string::npos);
  CHECK(text.find("troupe_step_gap_seconds_max{model=\"m\"} 5\n") != std::string::npos);
}
