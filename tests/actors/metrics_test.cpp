// The text that Prometheus reads.
#include "actors/metrics.hpp"
#include "support/catch.hpp"

using namespace troupe::actors;

TEST_CASE("histogram buckets are cumulative and the sum and the maximum are in seconds") {
  engine_metrics metrics;
  metrics.step_gap.observe(std::chrono::microseconds(3));
  metrics.step_gap.observe(std::chrono::microseconds(100));
  metrics.step_gap.observe(std::chrono::seconds(5));
  REQUIRE(metrics.step_gap.count() == 3);
  const std::string text = metrics.prometheus_text("m");
  const auto has = [&text](const std::string& line) { return text.find(line + "\n") != std::string::npos; };
  CHECK(has("# TYPE troupe_step_gap_seconds histogram"));
  CHECK(has("troupe_step_gap_seconds_bucket{model=\"m\",le=\"1e-06\"} 0"));
  CHECK(has("troupe_step_gap_seconds_bucket{model=\"m\",le=\"5e-06\"} 1"));
  CHECK(has("troupe_step_gap_seconds_bucket{model=\"m\",le=\"2\"} 2"));
  CHECK(has("troupe_step_gap_seconds_bucket{model=\"m\",le=\"+Inf\"} 3"));
  CHECK(has("troupe_step_gap_seconds_count{model=\"m\"} 3"));
  CHECK(has("troupe_step_gap_seconds_max{model=\"m\"} 5"));
}

TEST_CASE("used blocks are those neither free nor cached, and a quote in a model's name is escaped") {
  engine_metrics metrics;
  metrics.kv_blocks_total = 10;
  metrics.kv_blocks_free = 5;
  metrics.kv_blocks_cached = 2;
  const std::string text = metrics.prometheus_text("a\"b");
  REQUIRE(text.find("troupe_kv_blocks_used{model=\"a\\\"b\"} 3\n") != std::string::npos);
}
